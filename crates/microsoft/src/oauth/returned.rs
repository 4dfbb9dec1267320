//! What a browser brings back from the sign-in service: the answer to a sign-in, or to the consent page of an administrator.
//!
//! Whatever comes back came through a browser, so each field may stand there once, and of what nobody vouches for nothing
//! is read: which tenant it was follows from the state, and that it worked follows from a token.

use domain::LinkKind;
use zeroize::Zeroizing;

/// No answer of a sign-in service is longer; what is, is not looked at.
const LONGEST_QUERY: usize = 16 * 1024;

/// The fields of an answer. Never printed.
#[derive(Default)]
pub struct Returned {
    /// Which sign-in it is about. Compare it before anything else.
    pub state: Option<Zeroizing<String>>,
    code: Option<Zeroizing<String>>,
    error: Option<String>,
    error_description: Option<String>,
    admin_consent: Option<String>,
    iss: Option<String>,
    tenant: Option<String>,
}

/// What an answer says.
pub enum Said {
    /// A code that can be redeemed once.
    Code {
        /// The code.
        code: Zeroizing<String>,
        /// Who says that it gave it out (RFC 9207), if anybody does.
        issuer: Option<String>,
    },
    /// An administrator agreed, as the browser tells it. Proven only by a token.
    Granted {
        /// In which directory, as the browser tells it: good for a sentence, and for nothing else.
        directory: Option<String>,
    },
    /// The sign-in service, or the person in front of it, refused; [`super::SignInError::of_redirect`] knows what that means.
    Refused {
        /// The word of the standard, such as `access_denied`.
        error: String,
        /// What Microsoft writes beside it.
        description: Option<String>,
    },
}

impl Returned {
    /// Reads the query of the redirect.
    ///
    /// # Errors
    /// When it is far too long, or holds a field twice: of two, a proxy and we could read different ones.
    pub fn read(query: &str) -> Result<Self, &'static str> {
        if query.len() > LONGEST_QUERY {
            return Err("the answer is far too long");
        }
        let mut fields = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let repeated = match name.as_ref() {
                "code" => fields.code.replace(Zeroizing::new(value.into_owned())).is_some(),
                "state" => fields.state.replace(Zeroizing::new(value.into_owned())).is_some(),
                "error" => fields.error.replace(value.into_owned()).is_some(),
                "error_description" => fields.error_description.replace(value.into_owned()).is_some(),
                "iss" => fields.iss.replace(value.into_owned()).is_some(),
                "admin_consent" => fields.admin_consent.replace(value.into_owned()).is_some(),
                "tenant" => fields.tenant.replace(value.into_owned()).is_some(),
                // `scope`, `session_state` and what else may come: none of it is trusted, so none is read.
                _ => false,
            };
            if repeated {
                return Err("a field of the answer stands there twice");
            }
        }
        Ok(fields)
    }

    /// What the answer says, for a link of this kind. An error counts first: a refused admin consent says
    /// `admin_consent=True` as well.
    ///
    /// # Errors
    /// Why it is no answer of that kind.
    pub fn said(self, kind: LinkKind) -> Result<Said, &'static str> {
        if let Some(error) = self.error {
            return Ok(Said::Refused { error, description: self.error_description });
        }
        match (kind, self.code, self.admin_consent) {
            (LinkKind::Delegated, Some(code), None) if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Said::Code { code, issuer: self.iss })
            }
            (LinkKind::Delegated, Some(_), None) => Err("the code is empty or holds characters that no code has"),
            (LinkKind::Application, None, Some(word)) if word.eq_ignore_ascii_case("true") => Ok(Said::Granted { directory: self.tenant }),
            (LinkKind::Delegated, ..) => Err("the answer holds no code, or more than a code"),
            (LinkKind::Application, ..) => Err("the answer does not say that an administrator consented"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(query: &str, kind: LinkKind) -> Result<&'static str, &'static str> {
        Ok(match Returned::read(query)?.said(kind)? {
            Said::Code { .. } => "code",
            Said::Granted { .. } => "granted",
            Said::Refused { .. } => "refused",
        })
    }

    #[test]
    fn an_answer_is_taken_only_in_the_form_that_its_link_asked_for() {
        use LinkKind::{Application, Delegated};
        assert_eq!(outcome("code=0.AX&state=s&session_state=x", Delegated), Ok("code"));
        assert_eq!(outcome("admin_consent=True&tenant=whoever&state=s", Application), Ok("granted"));
        for query in [
            "error=access_denied&code=a",
            "error=&code=a",
            "error=permission_denied&admin_consent=True",
            "admin_consent=True&state=s&error=",
        ] {
            assert_eq!(outcome(query, Delegated), Ok("refused"), "{query}");
            assert_eq!(outcome(query, Application), Ok("refused"), "{query}");
        }
        for (query, kind) in [
            ("", Delegated),
            ("state=s", Delegated),
            ("code=&state=s", Delegated),
            ("code=a%20b&state=s", Delegated),
            ("code=a%00b&state=s", Delegated),
            ("code=a&code=b&state=s", Delegated),
            ("state=s&state=t&code=a", Delegated),
            ("code=a&admin_consent=True", Delegated),
            ("admin_consent=True", Delegated),
            ("code=a", Application),
            ("state=s&tenant=x", Application),
            ("state=s;admin_consent=True", Application),
            ("admin_consent=False", Application),
            ("admin_consent=1", Application),
            ("admin_consent=", Application),
            ("admin_consent=True&admin_consent=True", Application),
            ("admin_consent=True&tenant=a&tenant=a", Application),
            ("state=s&error=x&error=y", Application),
            ("code=a&admin_consent=True", Application),
        ] {
            assert!(outcome(query, kind).is_err(), "{query} {kind}");
        }
        assert!(outcome(&format!("code={}", "a".repeat(20_000)), Delegated).is_err());
    }
}
