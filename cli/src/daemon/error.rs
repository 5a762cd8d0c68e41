//! What the daemon will not or cannot do, as the API says it.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use netloom_runtime::{fabric::FabricError, protocol::Failure};

use super::store::StoreError;
use crate::api::ErrorBody;

/// What kind of failure it is; each has its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense.
    Invalid,
    /// It is longer than any may be.
    TooLong,
    /// Its end did not come.
    Unfinished,
    /// No such container, network or port.
    Missing,
    /// It contradicts what there is.
    Conflict,
    /// A supervisor did not do it.
    Failed,
    /// A supervisor did not answer in time.
    TimedOut,
    /// The daemon's own trouble.
    Internal,
}

/// A failure as people will read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    pub kind: Kind,
    /// Lower case, no full stop.
    pub message: String,
    pub hint: Option<String>,
    /// As in [`ErrorBody::exit_code`].
    pub exit_code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, exit_code: if kind == Kind::Invalid { 2 } else { 1 } }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub(crate) fn too_long(message: impl Into<String>) -> Self {
        Self::new(Kind::TooLong, message)
    }

    pub(crate) fn unfinished(message: impl Into<String>) -> Self {
        Self::new(Kind::Unfinished, message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self::new(Kind::TimedOut, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure where a start is refused: `run` ends with 125.
    pub(crate) fn into_failure(self) -> Failure {
        let code = if self.exit_code > 2 { self.exit_code } else { 125 };
        Failure { message: self.message, hint: self.hint, code: code.into() }
    }

    const fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Unfinished => StatusCode::REQUEST_TIMEOUT,
            Kind::Missing => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Failed | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl From<Failure> for Error {
    /// `run` and `exec` hear of failures in their sessions; whoever asks the daemon ends with 1, as after any other.
    fn from(failure: Failure) -> Self {
        let exit_code = u8::try_from(failure.code).ok().filter(|code| !matches!(code, 0 | 125)).unwrap_or(1);
        Self { kind: Kind::Failed, message: failure.message, hint: failure.hint, exit_code }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::internal(error.to_string()).hint("is the disk full, or the directory gone?")
    }
}

impl From<FabricError> for Error {
    fn from(error: FabricError) -> Self {
        let kind = match &error {
            FabricError::NotAStation(_) => Kind::Invalid,
            FabricError::Full | FabricError::Gateway(_) => Kind::Conflict,
            FabricError::NoSuchPort(_) => Kind::Missing,
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        (status, Json(ErrorBody { error: self.message, hint: self.hint, exit_code: self.exit_code })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use netloom_switch::{Mac, PortId};

    use super::*;

    #[test]
    fn only_run_and_exec_end_with_125() {
        let exit_code = |code| Error::from(Failure { message: "x".to_owned(), hint: None, code }).exit_code;
        assert_eq!([0, 1, 125, 127, 500].map(exit_code), [1, 1, 1, 127, 1]);
    }

    #[test]
    fn what_the_data_plane_refuses_is_the_callers_to_correct() {
        let statuses = [FabricError::NotAStation(Mac::BROADCAST), FabricError::NoSuchPort(PortId(9)), FabricError::Gateway(Mac([2; 6]))];
        let statuses = statuses.map(|error| Error::from(error).status().as_u16());
        assert_eq!(statuses, [400, 404, 409]);
    }
}
