//! Who asks: an API key, or an OAuth client with a token that is fetched when it is needed.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::transport;
use crate::source::{FetchCounters, SourceError, SourceErrorKind};

/// A token is renewed this long before it runs out, so that it lasts until a reply has come.
const AHEAD: Duration = Duration::from_secs(60);
/// More than any token reply.
const MOST_BYTES: u64 = 64 << 10;

pub(super) enum Credentials {
    Key(SecretString),
    Client(OAuthClient),
}

/// OAuth 2 client credentials (verified; that they go in the form body is assumed).
pub(super) struct OAuthClient {
    id: String,
    secret: SecretString,
    http: Client,
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
    pub(super) fn client(url: &Url, id: String, secret: String) -> Result<Self, SourceError> {
        let mut address = url.clone();
        // The path before the API's does not apply here.
        address.set_path("/auth/connect/token");
        let http = transport::client(url, redirect::Policy::none())?;
        Ok(Self::Client(OAuthClient { id, secret: secret.into(), http, address, token: Mutex::default() }))
    }

    /// The request with the credentials, and the token in it, if it has one.
    pub(super) async fn sign(
        &self,
        request: RequestBuilder,
        deadline: Instant,
        counters: &FetchCounters,
    ) -> Result<(RequestBuilder, Option<SecretString>), SourceError> {
        match self {
            Self::Key(key) => Ok((request.query(&[("apiKey", key.expose_secret())]), None)),
            Self::Client(client) => {
                let token = client.token(deadline, counters).await?;
                let request = request.query(&[("apiKey", &client.id)]).bearer_auth(token.expose_secret());
                Ok((request, Some(token)))
            }
        }
    }

    /// What must not show in a message.
    pub(super) fn secrets(&self) -> Vec<&SecretString> {
        match self {
            Self::Key(key) => vec![key],
            Self::Client(client) => vec![&client.secret],
        }
    }

    /// Forgets a token that was refused, unless another has come since.
    pub(super) async fn forget(&self, refused: &SecretString) {
        if let Self::Client(client) = self {
            let mut token = client.token.lock().await;
            if token.as_ref().is_some_and(|known| known.text.expose_secret() == refused.expose_secret()) {
                *token = None;
            }
        }
    }
}

impl OAuthClient {
    async fn token(&self, deadline: Instant, counters: &FetchCounters) -> Result<SecretString, SourceError> {
        let mut known = self.token.lock().await;
        if let Some(token) = known.as_ref().filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.text.clone());
        }
        let token = self.fetch(deadline, counters).await?;
        Ok(known.insert(token).text.clone())
    }

    async fn fetch(&self, deadline: Instant, counters: &FetchCounters) -> Result<Token, SourceError> {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", "apiv1"),
            ("client_id", &self.id),
            ("client_secret", self.secret.expose_secret()),
        ];
        let asked_at = Instant::now();
        let response = transport::send(self.http.post(self.address.clone()).form(&form), deadline, counters).await?;
        let status = response.status();
        if matches!(status.as_u16(), 400 | 401) {
            return Err(SourceError::permanent(
                SourceErrorKind::Credentials,
                "iSAMS refuses the OAuth client; check the client's id, its secret and its scopes",
            ));
        }
        if !status.is_success() {
            return Err(transport::status_error(status, response.headers()));
        }
        let body = transport::whole(response, deadline, MOST_BYTES, counters).await?;
        let reply: TokenReply = serde_json::from_slice(&body).map_err(|_| {
            SourceError::permanent(
                SourceErrorKind::BadReply,
                "the reply to the token request holds no token; check the address",
            )
        })?;
        let seconds = match &reply.expires_in {
            Value::String(text) => text.trim().parse().ok(),
            number => number.as_u64(),
        };
        // A token whose lifetime is unknown serves one fetch.
        let lifetime = Duration::from_secs(seconds.unwrap_or(0).min(86_400));
        // A short-lived token is used for half of its life.
        let renew_at = asked_at + lifetime.saturating_sub(AHEAD).max(lifetime / 2);
        Ok(Token { text: reply.access_token.into(), renew_at })
    }
}
