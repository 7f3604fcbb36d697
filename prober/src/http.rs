//! A GET over HTTP/1.1.

use std::net::SocketAddr;

use bytes::Bytes;
use federation_core::probe::Get;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Asks once. The body is not read: a status is an answer.
///
/// # Errors
/// In words, when the request cannot be sent, is not answered, or the status is not one of those that are well.
pub(crate) async fn get<S>(stream: S, address: SocketAddr, get: &Get) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = if get.host.is_empty() { address.to_string() } else { get.host.clone() };
    let request = Request::get(&get.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "federation-prober")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::pin!(connection);
    let asked = sender.send_request(request);
    tokio::pin!(asked);
    let response = tokio::select! {
        response = &mut asked => response.map_err(|error| error.to_string())?,
        ended = &mut connection => match ended {
            Err(error) => return Err(error.to_string()),
            // The answer may have come with the end.
            Ok(()) => asked.await.map_err(|error| error.to_string())?,
        },
    };
    let status = response.status().as_u16();
    if get.expects(status) { Ok(()) } else { Err(format!("GET {} was answered {status}", get.path)) }
}
