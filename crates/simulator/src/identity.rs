//! The pretend sign-in service: the token endpoints, v1 and v2, and what they hand out. What people and browsers see
//! of it, and how an app proves itself, stands in the modules below.

pub(crate) mod authorize;
mod client;
mod consent;
mod device;
mod directory;
pub(crate) mod errors;
mod form;
mod jwt;
mod keys;
mod permissions;
pub(crate) mod tokens;

use crate::answer::Answer;
use crate::dice::Dice;
use crate::json::Json;
use crate::scenario::{Effect, OddToken};
use crate::server::{App, Call};
use crate::settings::Rotation;
use crate::stamp::Stamp;
use crate::world::World;
use authorize::Codes;
use client::Registered;
use device::Devices;
pub use directory::Region;
use directory::Regions;
use errors::Refusal;
pub(crate) use form::Form;
use jwt::Mint;
use keys::SigningKeys;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokens::{Access, BadAccess, Families, Ticket};
use uuid::Uuid;

/// Which generation of the protocol a request speaks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    V1,
    V2,
}

/// The sign-in service of one simulator.
#[derive(Debug)]
pub(crate) struct Identity {
    mint: Mint,
    pub(crate) client_id: Uuid,
    pub(crate) client_secret: String,
    pub(crate) families: Families,
    pub(crate) registered: Registered,
    pub(crate) keys: SigningKeys,
    pub(crate) regions: Regions,
    pub(crate) devices: Devices,
    /// Tenants whose administrator has agreed to the app's own permissions.
    consented: Mutex<HashSet<Uuid>>,
    codes: Codes,
    /// Access tokens that were handed out in unreadable form, with what they stand for.
    opaque: Mutex<HashMap<String, String>>,
    issued: AtomicU64,
    seed: u64,
}

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a grant amounts to, before it is written down.
struct Granted {
    tenant: Uuid,
    resource: String,
    /// The refresh token to hand out; absent for an app that acts for itself.
    ticket: Option<Ticket>,
    wants_id: bool,
    scope: String,
    /// What the id token has to repeat.
    nonce: Option<String>,
}

impl Identity {
    pub(crate) fn new(seed: u64, marker: Option<&str>) -> Identity {
        let mint = Mint::new(seed, marker);
        let mut dice = Dice::of(&[seed, 0xA44]);
        let client_id = dice.uuid();
        // The letters that break when somebody forgets to encode a form are all there.
        let client_secret = format!("Sim8Q~{}+{}/{}=", mint.marker(), dice.hex(14), dice.hex(10));
        Identity {
            mint,
            client_id,
            client_secret,
            families: Families::default(),
            registered: Registered::default(),
            keys: SigningKeys::default(),
            regions: Regions::default(),
            devices: Devices::default(),
            consented: Mutex::default(),
            codes: Codes::default(),
            opaque: Mutex::default(),
            issued: AtomicU64::new(0),
            seed,
        }
    }

    /// The text of a refresh token.
    pub(crate) fn refresh_token(&self, ticket: Ticket) -> String {
        tokens::write(&self.mint, ticket)
    }

    /// What a bearer token allows now, with its name and tenant as far as they can be told.
    pub(crate) fn check(&self, token: Option<&str>, now: Stamp) -> (Option<String>, Option<Uuid>, Result<Access, BadAccess>) {
        let Some(token) = token else { return (None, None, Err(BadAccess::Missing)) };
        let readable = self.opaque.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        tokens::check(&self.mint, readable.as_deref().unwrap_or(token), now)
    }

    /// Answers a request to the token endpoint of `path_tenant`.
    pub(crate) fn token(&self, app: &App, call: &mut Call, path_tenant: &str, form: &Form, protocol: Protocol) -> Answer {
        let outcome = self.grant(app, call, path_tenant, form, protocol);
        match outcome {
            Ok(granted) => self.write(app, call, &granted, protocol),
            Err(refusal) => refusal.answer(call.at, call.request_id, form.correlation.unwrap_or(call.request_id)),
        }
    }

    fn grant(&self, app: &App, call: &mut Call, path_tenant: &str, form: &Form, protocol: Protocol) -> Result<Granted, Refusal> {
        let named = tenant_of_path(&app.world, path_tenant)?;
        if protocol == Protocol::V2 && form.get("resource").is_some() {
            return Err(Refusal::of(901002));
        }
        let grant_type = form.need("grant_type")?;
        if grant_type == DEVICE_CODE {
            // Made for programs that cannot keep a secret, so none is asked for.
            self.named(form)?;
            return self.device(app, call, named, form);
        }
        self.authenticate(app, call, path_tenant, form)?;
        match grant_type {
            "refresh_token" => self.refresh(app, call, named, form, protocol),
            "client_credentials" => self.client_credentials(app, named, form, protocol),
            "authorization_code" => self.authorization_code(app, call, named, form, protocol),
            other => Err(Refusal::of(70003).about(&format!("'{other}'"))),
        }
    }

    fn refresh(&self, app: &App, call: &mut Call, named: Option<Uuid>, form: &Form, protocol: Protocol) -> Result<Granted, Refusal> {
        let text = form.need("refresh_token")?;
        let ticket = tokens::read(&self.mint, text).ok_or_else(|| Refusal::of(70000))?;
        call.token = Some(ticket.name());
        let tenant = named.unwrap_or(ticket.tenant);
        if tenant != ticket.tenant && !app.world.settings.one_account_everywhere {
            return Err(Refusal::of(50020));
        }
        let resource = match protocol {
            Protocol::V1 => Resources::of(app).named(form.get("resource"))?,
            Protocol::V2 => Resources::of(app).first_in(form.get("scope"))?,
        };
        let strict = call.effects.find(|effect| matches!(effect, Effect::StrictRotation).then_some(Rotation::Strict));
        let next = self.families.exchange(ticket, strict.unwrap_or(app.world.settings.rotation))?;
        Ok(Granted {
            tenant,
            resource,
            ticket: Some(next),
            wants_id: form.has_scope("openid"),
            scope: form.get("scope").unwrap_or_default().to_owned(),
            nonce: None,
        })
    }

    fn client_credentials(&self, app: &App, named: Option<Uuid>, form: &Form, protocol: Protocol) -> Result<Granted, Refusal> {
        let tenant = named.ok_or_else(|| Refusal::of(9001023))?;
        let resource = match protocol {
            Protocol::V1 => Resources::of(app).named(Some(form.need("resource")?))?,
            Protocol::V2 => {
                let scope = form.need("scope")?;
                let mut parts = scope.split(' ').filter(|part| !part.is_empty());
                let (Some(only), None) = (parts.next(), parts.next()) else { return Err(Refusal::of(700023)) };
                if !only.ends_with("/.default") {
                    return Err(Refusal::of(70011).about(&format!("The scope {only} is not valid.")));
                }
                Resources::of(app).first_in(Some(only))?
            }
        };
        Ok(Granted { tenant, resource, ticket: None, wants_id: false, scope: String::new(), nonce: None })
    }

    fn authorization_code(
        &self,
        app: &App,
        call: &mut Call,
        named: Option<Uuid>,
        form: &Form,
        protocol: Protocol,
    ) -> Result<Granted, Refusal> {
        let consent = self.codes.redeem(form, call.at)?;
        if named.is_some_and(|tenant| tenant != consent.tenant) {
            return Err(Refusal::of(700005));
        }
        let scope = form.get("scope").unwrap_or(&consent.scope).to_owned();
        let resource = match protocol {
            Protocol::V1 => Resources::of(app).named(form.get("resource").or(consent.resource.as_deref()))?,
            Protocol::V2 => Resources::of(app).first_in(Some(&scope))?,
        };
        let durable = protocol == Protocol::V1 || format!(" {} {scope} ", consent.scope).contains(" offline_access ");
        let ticket = durable.then(|| self.families.start(consent.tenant));
        call.token = ticket.map(|ticket| ticket.name());
        let wants_id = scope.split(' ').chain(consent.scope.split(' ')).any(|word| word == "openid");
        Ok(Granted { tenant: consent.tenant, resource, ticket, wants_id, scope, nonce: consent.nonce })
    }

    fn device(&self, app: &App, call: &mut Call, named: Option<Uuid>, form: &Form) -> Result<Granted, Refusal> {
        let device = self.devices.redeem(form, app.world.settings.device_interval, call.at)?;
        if named.is_some_and(|tenant| tenant != device.tenant) {
            return Err(Refusal::of(700005));
        }
        let resource = Resources::of(app).first_in(Some(&device.scope))?;
        let asked = |word: &str| device.scope.split(' ').any(|asked| asked == word);
        let ticket = asked("offline_access").then(|| self.families.start(device.tenant));
        call.token = ticket.map(|ticket| ticket.name());
        Ok(Granted { tenant: device.tenant, resource, ticket, wants_id: asked("openid"), scope: device.scope, nonce: None })
    }

    /// Writes down what was granted, odd where the script says so.
    fn write(&self, app: &App, call: &Call, granted: &Granted, protocol: Protocol) -> Answer {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let mut dice = Dice::of(&[self.seed, 0x70CE, number]);
        let odd = call.effects.find(|effect| if let Effect::OddToken(odd) = effect { Some(*odd) } else { None });
        let tenant = if odd == Some(OddToken::WrongTenant) { dice.uuid() } else { granted.tenant };
        let (shortest, longest) = app.world.settings.access_lifetime;
        let lifetime = Duration::from_millis(dice.between(shortest.as_millis() as i64, longest.as_millis() as i64) as u64).as_secs() as i64;
        let now = call.at.unix_seconds();
        let by_user = granted.ticket.is_some() || granted.wants_id;
        let user = Dice::of(&[self.seed, 0x05E4, granted.tenant.as_u128() as u64]).uuid();
        // An app that acts for itself gets a token also where nobody has agreed to anything.
        let unagreed = !by_user && app.world.settings.admin_consent_needed && !self.has_consented(granted.tenant);
        let for_defender = app.world.settings.defender_resources.contains(&granted.resource);
        let permissions = if unagreed { &[][..] } else { permissions::of(for_defender, by_user, odd) };
        let roles = permissions::roles(by_user, odd);
        let issuer = format!("{}/{tenant}/", app.base_url);
        let mut access = self.mint.jwt(|json| {
            json.str("aud", &granted.resource);
            json.str("iss", &issuer);
            json.num("iat", now);
            json.num("nbf", now);
            json.num("exp", now + lifetime);
            json.uuid("appid", self.client_id);
            json.uuid("oid", user);
            json.uuid("tid", tenant);
            if by_user {
                json.str("scp", &permissions.join(" "));
                json.str("upn", "mssp-reader@bekci.example");
            } else if !permissions.is_empty() {
                json.strings("roles", permissions);
            }
            json.str("uti", &format!("at-{number}"));
            if !roles.is_empty() {
                json.strings("wids", roles);
            }
            json.str("ver", "1.0");
        });
        if odd == Some(OddToken::Opaque) {
            let opaque = format!("EwB4{}{}", self.mint.marker(), self.mint.seal(access.as_bytes(), 600));
            self.opaque.lock().unwrap_or_else(PoisonError::into_inner).insert(opaque.clone(), access);
            access = opaque;
        }
        let id_token = (granted.wants_id && odd != Some(OddToken::NoIdToken)).then(|| {
            if call.effects.find(|effect| matches!(effect, Effect::ChangeKeys).then_some(())).is_some() {
                self.keys.change();
            }
            self.keys.sign(|json| {
                json.uuid("aud", self.client_id);
                json.str("iss", &format!("{}/{tenant}/v2.0", call.base_url));
                json.num("iat", now);
                json.num("nbf", now);
                json.num("exp", now + 3600);
                json.str("name", "Nöbetçi Vagt");
                json.uuid("oid", user);
                if let Some(nonce) = &granted.nonce {
                    json.str("nonce", nonce);
                }
                json.str("preferred_username", "mssp-reader@bekci.example");
                json.uuid("tid", tenant);
                json.str("ver", "2.0");
                self.mint.mark(json);
            })
        });
        let refresh = granted.ticket.filter(|_| odd != Some(OddToken::NoRefreshToken)).map(|ticket| self.refresh_token(ticket));
        let scope = permissions::scope_text(&granted.resource, permissions, &granted.scope);
        let odd_expiry = call.effects.find(|effect| if let Effect::ExpiresIn { json } = effect { Some(json.clone()) } else { None });
        let body = Json::render(3000, |json| {
            json.str("token_type", "Bearer");
            match protocol {
                Protocol::V2 => {
                    if by_user {
                        json.str("scope", &scope);
                    }
                    match &odd_expiry {
                        Some(text) => json.raw("expires_in", text),
                        None => json.num("expires_in", lifetime),
                    }
                    json.num("ext_expires_in", lifetime);
                }
                Protocol::V1 => {
                    json.str("scope", &permissions.join(" "));
                    for (name, value) in
                        [("expires_in", lifetime), ("ext_expires_in", lifetime), ("expires_on", now + lifetime), ("not_before", now)]
                    {
                        json.str(name, &value.to_string());
                    }
                    json.str("resource", &granted.resource);
                }
            }
            json.str("access_token", &access);
            if let Some(refresh) = &refresh {
                json.str("refresh_token", refresh);
            }
            if let Some(id_token) = &id_token {
                json.str("id_token", id_token);
            }
        });
        Answer::json(200, body).header("cache-control", "no-store, no-cache").header("x-ms-request-id", &call.request_id.to_string())
    }
}

impl Identity {
    fn has_consented(&self, tenant: Uuid) -> bool {
        self.consented.lock().unwrap_or_else(PoisonError::into_inner).contains(&tenant)
    }
}

/// The tenant a path names: by id or by domain; none for the addresses that stand for all.
pub(crate) fn tenant_of_path(world: &World, path: &str) -> Result<Option<Uuid>, Refusal> {
    if matches!(path, "common" | "organizations") {
        return Ok(None);
    }
    let by_id = path.parse::<Uuid>().ok().and_then(|id| world.find(id));
    let tenant = by_id.or_else(|| world.by_domain(path));
    tenant.map(|tenant| Some(tenant.face.directory_id)).ok_or_else(|| Refusal::of(90002).about(&format!("'{path}'")))
}

/// The resources a token can be for.
struct Resources<'a> {
    known: Vec<&'a String>,
}

impl<'a> Resources<'a> {
    fn of(app: &'a App) -> Resources<'a> {
        let settings = &app.world.settings;
        Resources { known: settings.graph_resources.iter().chain(&settings.defender_resources).collect() }
    }

    /// The resource v1 names; Graph when it names none.
    fn named(&self, resource: Option<&str>) -> Result<String, Refusal> {
        let Some(resource) = resource else { return Ok(self.known.first().map(|first| (*first).clone()).unwrap_or_default()) };
        let known = self.known.iter().find(|known| known.as_str() == resource.trim_end_matches('/'));
        known.map(|known| (*known).clone()).ok_or_else(|| Refusal::of(500011).about(&format!("'{resource}'")))
    }

    /// The resource of the first scope that names one; Graph when none does.
    fn first_in(&self, scope: Option<&str>) -> Result<String, Refusal> {
        let mut words =
            scope.unwrap_or_default().split(' ').filter(|word| !matches!(*word, "" | "openid" | "profile" | "email" | "offline_access"));
        // A bare permission name, without a resource before it, belongs to Graph.
        let resource =
            words.next().filter(|word| word.contains("://")).and_then(|word| word.rsplit_once('/')).map(|(resource, _)| resource);
        self.named(resource)
    }
}
