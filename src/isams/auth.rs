//! Who asks: an API key, or an OAuth client with a token that is fetched when it is needed.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument;

use super::body::text_of;
use super::confidential::Confidential;
use super::failure::{bad_reply, ended_early};
use super::transport::{self, AUTH_PATH, Attempt};
use crate::model::Cause;
use crate::source::{FetchCounters, SourceError, SourceErrorKind, retry};

/// A token is renewed this long before it runs out, so that it lasts until a reply has come.
const AHEAD: Duration = Duration::from_secs(60);
/// No token is used for longer than a day, in seconds.
const LONGEST_LIFE: f64 = 86_400.0;
/// More than any token reply.
const MOST_BYTES: u64 = 64 << 10;

pub(super) enum Credentials {
    Key(SecretString),
    Client(OAuthClient),
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenScope {
    Batch,
    Rest,
}

impl TokenScope {
    fn name(self) -> &'static str {
        match self {
            Self::Batch => "apiv1",
            Self::Rest => "restapi",
        }
    }
}

/// OAuth 2 client credentials in the form body (verified).
pub(super) struct OAuthClient {
    scope: TokenScope,
    id: String,
    secret: SecretString,
    address: Url,
    /// Held while a token is fetched, so that one fetch serves all who wait.
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    text: SecretString,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    /// Seconds, as a number or as text.
    #[serde(default)]
    expires_in: Value,
}

impl Credentials {
    pub(super) fn client(url: &Url, scope: TokenScope, id: String, secret: String) -> Self {
        let mut address = url.clone();
        // The path before the API's does not apply here.
        address.set_path(&format!("{AUTH_PATH}token"));
        Self::Client(OAuthClient { scope, id, secret: secret.into(), address, token: Mutex::default() })
    }

    /// Sends a request with the credentials, which show in no message from then on. A token can be revoked before its time:
    /// after a refusal a fresh one may do. Where only the latest token of a client is valid, another process can take one in
    /// between: after a second refusal, and a wait, another fresh one may do.
    pub(super) async fn send(
        &self,
        mut request: RequestBuilder,
        http: &Client,
        attempt: &Attempt,
    ) -> Result<Response, SourceError> {
        match self {
            Self::Key(key) => attempt.confidential.keep(key),
            Self::Client(client) => {
                attempt.confidential.keep(&client.secret);
                // The id stands in the address, in a key's place; a short one may be a word.
                if client.id.len() >= 8 {
                    attempt.confidential.keep(&client.id.clone().into());
                }
            }
        }
        let mut waits = std::iter::once(Duration::ZERO).chain(retry::waits(2));
        loop {
            let again = request.try_clone();
            let (signed, token) = self.sign(request, http, attempt).await?;
            token.iter().for_each(|token| attempt.confidential.keep(token));
            let response = transport::send(signed, attempt).await?;
            let (StatusCode::UNAUTHORIZED, Some(token), Some(again)) = (response.status(), token, again) else {
                return Ok(response);
            };
            self.forget(&token).await;
            let Some(wait) = waits.next().filter(|wait| Instant::now() + *wait < attempt.deadline) else {
                return Ok(response);
            };
            attempt.span.in_scope(|| retry::warn(SourceErrorKind::Credentials, wait));
            sleep(wait).await;
            attempt.counters.add_retry();
            request = again;
        }
    }

    /// The request with the credentials, and the token in it, if it has one.
    async fn sign(
        &self,
        request: RequestBuilder,
        http: &Client,
        attempt: &Attempt,
    ) -> Result<(RequestBuilder, Option<SecretString>), SourceError> {
        match self {
            Self::Key(key) => Ok((request.query(&[("apiKey", key.expose_secret())]), None)),
            Self::Client(client) => {
                let token = client.token(http, attempt).await.map_err(|error| {
                    error.reworded(|message| format!("signing in (the request for a token) failed: {message}"))
                })?;
                let request = match client.scope {
                    TokenScope::Batch => request.query(&[("apiKey", &client.id)]),
                    TokenScope::Rest => request,
                };
                Ok((request.bearer_auth(token.expose_secret()), Some(token)))
            }
        }
    }

    /// Gives a held token back (RFC 7009; that iSAMS has such an address is assumed).
    pub(super) async fn revoke(&self, http: &Client, deadline: Instant) -> Result<(), SourceError> {
        let Self::Client(client) = self else { return Ok(()) };
        let held = timeout_at(deadline, client.token.lock()).await.map_err(|_| transport::out_of_time())?.take();
        let Some(token) = held else { return Ok(()) };
        let mut address = client.address.clone();
        address.set_path(&format!("{AUTH_PATH}revocation"));
        let form = [
            ("token", token.text.expose_secret()),
            ("token_type_hint", "access_token"),
            ("client_id", &client.id),
            ("client_secret", client.secret.expose_secret()),
        ];
        let attempt = Attempt::new(&address, 1, deadline, FetchCounters::default(), Confidential::default());
        let sending = transport::send(http.post(address).form(&form), &attempt);
        let response = sending.instrument(attempt.span.clone()).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(transport::status_error(status, response.headers(), false)),
        }
    }

    /// Forgets a token that was refused, unless another has come since.
    async fn forget(&self, refused: &SecretString) {
        if let Self::Client(client) = self {
            let mut token = client.token.lock().await;
            if token.as_ref().is_some_and(|known| known.text.expose_secret() == refused.expose_secret()) {
                *token = None;
            }
        }
    }
}

impl OAuthClient {
    async fn token(&self, http: &Client, attempt: &Attempt) -> Result<SecretString, SourceError> {
        let mut known = timeout_at(attempt.deadline, self.token.lock()).await.map_err(|_| transport::out_of_time())?;
        if let Some(token) = known.as_ref().filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.text.clone());
        }
        let own =
            Attempt::new(&self.address, 1, attempt.deadline, attempt.counters.clone(), attempt.confidential.clone());
        let token = self.fetch(http, &own).instrument(own.span.clone()).await?;
        Ok(known.insert(token).text.clone())
    }

    async fn fetch(&self, http: &Client, attempt: &Attempt) -> Result<Token, SourceError> {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", self.scope.name()),
            ("client_id", &self.id),
            ("client_secret", self.secret.expose_secret()),
        ];
        let asked_at = Instant::now();
        let response = transport::send(http.post(self.address.clone()).form(&form), attempt).await?;
        let status = response.status();
        if matches!(status.as_u16(), 400 | 401) {
            return Err(SourceError::new(
                SourceErrorKind::Credentials,
                "iSAMS refuses the OAuth client; check the client's id, its secret and its scopes",
            ));
        }
        if !status.is_success() {
            return Err(transport::status_error(status, response.headers(), false));
        }
        let body = transport::whole(response, MOST_BYTES, attempt).await?;
        let body = text_of(&body)?;
        let reply: TokenReply = serde_json::from_slice(&body).map_err(|error| {
            let failure = match error.is_eof() && !body.is_empty() {
                true => ended_early(),
                false => bad_reply("the reply holds no token; check the address"),
            };
            failure.with_cause(Cause::of_json(&error))
        })?;
        let seconds: Option<f64> = match &reply.expires_in {
            Value::String(text) => text.trim().parse().ok(),
            number => number.as_f64(),
        };
        if reply.access_token.trim().is_empty() {
            return Err(bad_reply("the reply holds an empty token; check the address and the client's rights"));
        }
        // A token whose lifetime is unknown serves until it is refused, for a day at most.
        let lifetime = Duration::try_from_secs_f64(seconds.unwrap_or(LONGEST_LIFE).clamp(0.0, LONGEST_LIFE));
        let lifetime = lifetime.unwrap_or_default();
        // A short-lived token is used for half of its life.
        let renew_at = asked_at + lifetime.saturating_sub(AHEAD).max(lifetime / 2);
        Ok(Token { text: reply.access_token.into(), renew_at })
    }
}
