//! Who answered: the server itself, or whatever stands in front of it; and whether it was in a state to say anything.

use crate::{caller::Reply, evidence::Failure};

/// An answer of the server's own, whatever it is. What a proxy answers by itself has no id of a request.
///
/// # Errors
/// `Unproven` for any other.
pub fn of_server(what: &str, reply: &Reply) -> Result<(), Failure> {
    if reply.header("request-id").is_empty() {
        let status = reply.status;
        return Err(Failure::unproven(format!("{what} was answered {status} by what stands in front of the server")));
    }
    Ok(())
}

/// An answer of the server's own, which neither fails nor is busy: only such a one says how a control stands.
///
/// # Errors
/// `Unproven` for any other.
pub fn by_server(what: &str, reply: &Reply) -> Result<(), Failure> {
    of_server(what, reply)?;
    let status = reply.status;
    if status.is_server_error() || status == 429 {
        let body: String = String::from_utf8_lossy(&reply.body).chars().take(300).collect();
        return Err(Failure::unproven(format!("{what} was answered {status}: {body}")));
    }
    Ok(())
}
