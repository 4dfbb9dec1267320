//! Signing in with a short code on another device. The person is a method call, or a request to `/sim/device`.

use super::errors::Refusal;
use super::{Form, Identity, tenant_of_path};
use crate::answer::Answer;
use crate::dice::Dice;
use crate::json::Json;
use crate::server::{App, Call};
use crate::stamp::Stamp;
use anyhow::Context as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

const LIFETIME: Duration = Duration::from_secs(900);

/// A code that waits, was approved, or was declined.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) tenant: Uuid,
    pub(super) scope: String,
    user_code: String,
    expires: Stamp,
    asked: Option<Stamp>,
    agreed: Option<bool>,
}

/// The codes that are out.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    devices: Mutex<HashMap<String, Device>>,
    count: AtomicU64,
}

impl Devices {
    /// Somebody types this short code, and agrees or not.
    pub(crate) fn decide(&self, user_code: &str, agrees: bool) -> anyhow::Result<()> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let device = devices.values_mut().find(|device| device.user_code == user_code);
        device.with_context(|| format!("no device waits with the code {user_code}"))?.agreed = Some(agrees);
        Ok(())
    }

    /// Takes a code back from whoever asks for its tokens.
    pub(super) fn redeem(&self, form: &Form, interval: Duration, now: Stamp) -> Result<Device, Refusal> {
        let code = form.need("device_code")?;
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let device = devices.get_mut(code).ok_or_else(|| Refusal::of(70018))?;
        if device.expires <= now {
            return Err(Refusal::of(70020));
        }
        let too_soon = device.asked.is_some_and(|asked| now < asked.plus(interval));
        device.asked = Some(now);
        match device.agreed {
            None if too_soon => Err(Refusal { error: "slow_down".to_owned(), ..Refusal::of(70016) }),
            None => Err(Refusal::of(70016)),
            Some(false) => Err(Refusal { error: "authorization_declined".to_owned(), ..Refusal::of(65004) }),
            // A code is good once.
            Some(true) => devices.remove(code).ok_or_else(|| Refusal::of(70018)),
        }
    }
}

impl Identity {
    /// Answers a request for a code.
    pub(crate) fn device_code(&self, app: &App, call: &Call, path_tenant: &str, form: &Form) -> Answer {
        let correlation = form.correlation.unwrap_or(call.request_id);
        let outcome = self.named(form).and_then(|()| tenant_of_path(&app.world, path_tenant));
        let tenant = match outcome.and_then(|tenant| tenant.ok_or_else(|| Refusal::of(50059))) {
            Ok(tenant) => tenant,
            Err(refusal) => return refusal.answer(call.at, call.request_id, correlation),
        };
        let number = self.devices.count.fetch_add(1, Ordering::Relaxed);
        let mut dice = Dice::of(&[self.seed, 0xDE71CE, number]);
        let code = format!("1.A{}{}", self.mint.marker(), dice.hex(96));
        let letters = dice.hex(8).to_uppercase();
        let user_code = format!("{}-{}", &letters[..4], &letters[4..]);
        let device = Device {
            tenant,
            scope: form.get("scope").unwrap_or_default().to_owned(),
            user_code: user_code.clone(),
            expires: call.at.plus(LIFETIME),
            asked: None,
            agreed: None,
        };
        self.devices.devices.lock().unwrap_or_else(PoisonError::into_inner).insert(code.clone(), device);
        let uri = format!("{}/devicelogin", call.base_url);
        let body = Json::render(700, |json| {
            json.str("user_code", &user_code);
            json.str("device_code", &code);
            json.str("verification_uri", &uri);
            json.num("expires_in", LIFETIME.as_secs());
            json.num("interval", app.world.settings.device_interval.as_secs());
            json.str("message", &format!("To sign in, open {uri} and enter the code {user_code}."));
        });
        Answer::json(200, body)
    }
}
