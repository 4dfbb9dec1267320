//! An answer before it goes on the wire, and the error bodies of Graph and of Defender for Endpoint.

use crate::json::Json;
use crate::scenario::Endpoint;
use crate::server::Call;
use bytes::Bytes;

/// An answer as it was meant, before the script laid hands on its delivery.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// How many records of a list it holds.
    pub(crate) records: usize,
}

impl Answer {
    pub(crate) fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
        Answer { status, headers: vec![("content-type", content_type.to_owned())], body: body.into(), records: 0 }
    }

    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Answer {
        Answer::text(status, "application/json; charset=utf-8", body)
    }

    pub(crate) fn redirect(to: &str) -> Answer {
        Answer::text(302, "text/html; charset=utf-8", "").header("location", to)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// An error in the shape of the API that was called.
    pub(crate) fn error(call: &Call, status: u16, code: &str, message: &str) -> Answer {
        match call.endpoint {
            Endpoint::Defender => Answer::json(
                status,
                Json::render(300, |json| {
                    json.object("error", |json| {
                        json.str("code", code);
                        json.str("message", message);
                        json.uuid("target", call.request_id);
                    });
                }),
            ),
            _ => Answer::json(
                status,
                Json::render(400, |json| {
                    json.object("error", |json| {
                        json.str("code", code);
                        json.str("message", message);
                        json.object("innerError", |json| {
                            json.str("date", &call.at.error_text());
                            json.uuid("request-id", call.request_id);
                            json.str("client-request-id", &call.client_request_id);
                        });
                    });
                }),
            ),
        }
    }

    /// 400 for a request that was understood well enough to know that it is wrong.
    pub(crate) fn bad_request(call: &Call, message: &str) -> Answer {
        Answer::error(call, 400, if call.endpoint == Endpoint::Defender { "ODataError" } else { "BadRequest" }, message)
    }

    /// 404 for a record that is not there.
    pub(crate) fn not_found(call: &Call, what: &str) -> Answer {
        let code = if call.endpoint == Endpoint::Defender { "ResourceNotFound" } else { "itemNotFound" };
        Answer::error(call, 404, code, &format!("{what} was not found"))
    }

    /// 401 with the header that asks for a token.
    pub(crate) fn unauthorized(call: &Call, message: &str, claims: bool) -> Answer {
        let code = if call.endpoint == Endpoint::Defender { "Unauthorized" } else { "InvalidAuthenticationToken" };
        let mut ask = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", client_id=\"00000003-0000-0000-c000-000000000000\"".to_owned();
        if claims {
            // {"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}
            ask.push_str(", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzAwMDAwMDAwIn19fQ==\"");
        }
        Answer::error(call, 401, code, message).header("www-authenticate", &ask)
    }
}
