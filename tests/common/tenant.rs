//! A loopback server that answers every request with the same bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// Answers with these bytes, status line and headers included, and closes the connection.
pub fn answering(reply: impl Into<Vec<u8>>) -> String {
    let reply = reply.into();
    answering_with(move |stream| {
        let _ = stream.write_all(&reply);
    })
}

/// Lets a function answer each request.
pub fn answering_with(answer: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> String {
    serving(move |stream, _| answer(stream))
}

/// Answers each request by its path.
pub fn answering_by_path(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    answering_to(move |request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        answer(target.split('?').next().unwrap_or_default())
    })
}

/// Answers each request by its text.
pub fn answering_to(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    serving(move |stream, request| {
        let _ = stream.write_all(&answer(request));
    })
}

/// Lets a function answer each request, of which it gets the text.
pub fn serving(answer: impl Fn(&mut std::net::TcpStream, &str) + Send + 'static) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let request = read_request(&mut stream);
            answer(&mut stream, &request);
        }
    });
    url
}

fn read_request(stream: &mut std::net::TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.and_then(|length| length.trim().parse().ok()).is_none_or(|length: usize| body.len() >= length)
}

/// A reply with status 200 and this body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    with_status("200 OK", body)
}

/// A reply with this status and body.
pub fn with_status(status: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut reply =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).into_bytes();
    reply.extend_from_slice(body);
    reply
}
