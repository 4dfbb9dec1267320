//! What an alert names: devices, users, addresses and so on, and the techniques it shows, read from its body.
//!
//! Graph sends one object per piece of evidence, of 48 documented types that embed each other, and new ones appear
//! without notice; Defender for Endpoint sends one flat object for all kinds. Neither is read by its type: what is
//! looked for are members that mean the same wherever they stand. So an unknown type yields what is recognisable in it,
//! and nothing in a body but broken JSON is an error. Every text that comes out can be held by a Postgres `text`.

use std::collections::BTreeMap;

use domain::{Source, Ticks};
use serde_json::value::RawValue;

use crate::extract::cut;
use crate::members::{lenient_text, members};

/// Longer values are cut: they are looked for by index, which bounds them.
pub const MAX_VALUE: usize = 1024;
/// A text for people is cut here.
const MAX_TEXT: usize = 8192;
/// Things of one alert; a cluster of mails could name thousands.
const MAX_THINGS: usize = 1000;
/// Techniques of one alert, and the length of one.
const MAX_TECHNIQUES: usize = 100;
const MAX_TECHNIQUE: usize = 64;
/// Evidence within evidence within evidence.
const MAX_NESTING: usize = 5;

/// What sort of thing an alert names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A machine, by its DNS name.
    Device,
    /// An account, by its user principal name.
    User,
    /// An address.
    Ip,
    /// SHA-256 or SHA-1 of a file, in small letters.
    FileHash,
    /// A web address.
    Url,
    /// A mailbox, by its address.
    Mailbox,
    /// A running program, by its file name.
    Process,
}

impl Kind {
    /// The word in `dash.evidence`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
            Self::Ip => "ip",
            Self::FileHash => "file-hash",
            Self::Url => "url",
            Self::Mailbox => "mailbox",
            Self::Process => "process",
        }
    }
}

/// One thing that an alert names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub value: String,
    /// What it did, in Microsoft's words; each once.
    pub roles: Vec<String>,
    /// The worst that was said of it.
    pub verdict: Option<String>,
    /// The name of the file that a hash is of.
    pub file_name: Option<String>,
}

/// What a body tells besides what became columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Each kind and value once.
    pub things: Vec<Thing>,
    /// MITRE ATT&CK, as the source spells them; each once.
    pub techniques: Vec<String>,
    /// What happened, for people.
    pub description: Option<String>,
    /// The rule that raised the alert.
    pub detector: Option<String>,
    /// The product by its name for people.
    pub product: Option<String>,
    /// The first and the last activity that belongs to it.
    pub active: (Option<Ticks>, Option<Ticks>),
}

/// Reads an alert's body as this source delivered it.
///
/// # Errors
/// In words, when it is not one JSON object: that alone cannot be read at all.
pub fn read(source: Source, body: &str) -> Result<Facts, &'static str> {
    let (first, last) = match source {
        Source::MdeAlerts => ("firstEventTime", "lastEventTime"),
        Source::GraphAlerts | Source::GraphIncidents => ("firstActivityDateTime", "lastActivityDateTime"),
    };
    let names = [
        "evidence",
        "mitreTechniques",
        "description",
        "detectorId",
        "productName",
        first,
        last,
        "computerDnsName",
        "machineId",
        "relatedUser",
    ];
    let [evidence, techniques, description, detector, product, first, last, dns_name, machine, user] =
        members(body, names).map_err(|_| "its body is not one JSON object")?;
    let mut found = Found::default();
    // Endpoint names the device of an alert and its user beside the evidence.
    found.add(Kind::Device, text(dns_name).or_else(|| text(machine)), &Said::default());
    found.account(user, &Said::default());
    items(evidence).into_iter().for_each(|item| found.evidence(item, &Said::default(), 0));
    Ok(Facts {
        things: found.0.into_values().collect(),
        techniques: read_techniques(techniques),
        description: text(description).map(|text| cut(text, MAX_TEXT)),
        detector: text(detector).map(|text| cut(text, MAX_VALUE)),
        product: text(product).map(|text| cut(text, MAX_VALUE)),
        active: (stamp(first), stamp(last)),
    })
}

/// What was said of a piece of evidence; what it embeds is meant too.
#[derive(Clone, Default)]
struct Said {
    roles: Vec<String>,
    verdict: Option<String>,
}

#[derive(Default)]
struct Found(BTreeMap<(Kind, String), Thing>);

impl Found {
    fn add(&mut self, kind: Kind, value: Option<String>, said: &Said) {
        self.add_file(kind, value, None, said);
    }

    fn add_file(&mut self, kind: Kind, value: Option<String>, file_name: Option<String>, said: &Said) {
        let Some(value) = value.map(|value| cut(value, MAX_VALUE)) else { return };
        let is_full = self.0.len() >= MAX_THINGS;
        let key = (kind, value.clone());
        if is_full && !self.0.contains_key(&key) {
            return;
        }
        let thing = self.0.entry(key).or_insert(Thing { kind, value, roles: Vec::new(), verdict: None, file_name: None });
        for role in &said.roles {
            if !thing.roles.contains(role) {
                thing.roles.push(role.clone());
            }
        }
        if thing.verdict.is_none() || weight(said.verdict.as_deref()) > weight(thing.verdict.as_deref()) {
            thing.verdict.clone_from(&said.verdict);
        }
        thing.file_name = thing.file_name.take().or(file_name);
    }

    /// One piece of evidence, of whatever type, and what it embeds.
    fn evidence(&mut self, item: &RawValue, around: &Said, nesting: usize) {
        let names =
            ["@odata.type", "entityType", "roles", "verdict", "mdeDeviceId", "deviceDnsName", "hostName", "deviceName", "url", "urls"];
        let Ok([odata_type, entity_type, roles, verdict, device_id, dns_name, host_name, device_name, url, urls]) = object(item, names)
        else {
            return;
        };
        let said = Said {
            roles: Some(words(roles)).filter(|roles| !roles.is_empty()).unwrap_or_else(|| around.roles.clone()),
            verdict: text(verdict).map(|word| cut(word, MAX_TECHNIQUE)).or_else(|| around.verdict.clone()),
        };
        let is =
            |name: &str| text(odata_type).is_some_and(|text| text.ends_with(name)) || text(entity_type).is_some_and(|text| text == name);
        let named = text(dns_name).or_else(|| text(host_name)).or_else(|| text(device_name));
        // A file tells on which device it lay by the same member, and says nothing else of it.
        self.add(Kind::Device, named.or_else(|| text(device_id).filter(|_| is("deviceEvidence"))), &said);
        self.add(Kind::Url, text(url), &said);
        for url in items(urls) {
            self.add(Kind::Url, text(Some(url)), &said);
        }
        self.account(Some(item), &said);
        self.file(item, is("Process"), &said);
        self.addresses(item, &said);
        if nesting < MAX_NESTING {
            self.embedded(item, &said, nesting + 1);
        }
    }

    /// Addresses of the network and of mail.
    fn addresses(&mut self, item: &RawValue, said: &Said) {
        let names = ["ipAddress", "senderIp", "primaryAddress", "mailboxPrimaryAddress", "recipientEmailAddress", "recipient"];
        let Ok([ip, sender, primary, configured, recipient, submitted]) = object(item, names) else { return };
        self.add(Kind::Ip, text(ip), said);
        self.add(Kind::Ip, text(sender), said);
        for address in [primary, configured, recipient, submitted] {
            self.add(Kind::Mailbox, text(address), said);
        }
    }

    /// An account: Graph has an object for it, Endpoint writes its members into the evidence itself.
    fn account(&mut self, item: Option<&RawValue>, said: &Said) {
        let Some(item) = item else { return };
        let names = ["userAccount", "userPrincipalName", "accountName", "domainName", "userSid", "userName"];
        let Ok([account, principal, name, domain, sid, user_name]) = object(item, names) else { return };
        if account.is_some() {
            self.account(account, said);
        }
        let name = text(name).or_else(|| text(user_name));
        // The name of a domain alone, as evidence about DNS has it, is nobody's account.
        let local = name.map(|name| match text(domain) {
            Some(domain) => format!("{domain}\\{name}"),
            None => name,
        });
        self.add(Kind::User, text(principal).or(local).or_else(|| text(sid)), said);
    }

    /// A file by its hashes, and the program that runs from it.
    fn file(&mut self, item: &RawValue, is_process: bool, said: &Said) {
        let names = ["fileDetails", "imageFile", "sha1", "sha256", "fileName", "algorithm", "value"];
        let Ok([details, image, sha1, sha256, name, algorithm, value]) = object(item, names) else { return };
        for (nested, runs) in [(details, false), (image, true)] {
            if let Some(nested) = nested {
                self.file(nested, runs, said);
            }
        }
        let name = text(name);
        let hash = |member| text(member).map(|hash| hash.to_ascii_lowercase());
        for hash in [hash(sha256), hash(sha1), hash(value).filter(|_| algorithm.is_some())] {
            self.add_file(Kind::FileHash, hash, name.clone(), said);
        }
        self.add(Kind::Process, name.filter(|_| is_process), said);
    }

    /// Evidence within evidence.
    fn embedded(&mut self, item: &RawValue, said: &Said, nesting: usize) {
        let names = [
            "account",
            "host",
            "device",
            "sourceAddress",
            "destinationAddress",
            "hostIpAddress",
            "ipAddress",
            "ipAddresses",
            "files",
            "processes",
            "fileHashes",
            "urls",
        ];
        let Ok(found) = object(item, names) else { return };
        for member in found.into_iter().flatten() {
            if member.get().starts_with('[') {
                items(Some(member)).into_iter().for_each(|item| self.evidence(item, said, nesting));
            } else {
                self.evidence(member, said, nesting);
            }
        }
    }
}

/// How bad a verdict is.
fn weight(verdict: Option<&str>) -> u8 {
    match verdict {
        Some("malicious") => 3,
        Some("suspicious") => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// The members of an object; an error when it is none.
fn object<'a, const N: usize>(item: &'a RawValue, names: [&str; N]) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    members(item.get(), names)
}

/// The items of an array; none when it is none.
fn items(member: Option<&RawValue>) -> Vec<&RawValue> {
    member.and_then(|member| serde_json::from_str(member.get()).ok()).unwrap_or_default()
}

/// A text that says something.
fn text(member: Option<&RawValue>) -> Option<String> {
    lenient_text(member).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn stamp(member: Option<&RawValue>) -> Option<Ticks> {
    text(member).as_deref().and_then(Ticks::parse)
}

/// The words of a list, each once, but those that say nothing.
fn words(member: Option<&RawValue>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in items(member).into_iter().filter_map(|item| text(Some(item))) {
        if word != "unknown" && word.len() <= MAX_TECHNIQUE && !words.contains(&word) && words.len() < MAX_TECHNIQUES {
            words.push(word);
        }
    }
    words
}

/// A list of texts; one page documents a single text with commas instead.
fn read_techniques(member: Option<&RawValue>) -> Vec<String> {
    let mut techniques = match text(member) {
        Some(text) => {
            text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty() && word.len() <= MAX_TECHNIQUE).collect()
        }
        None => words(member),
    };
    techniques.sort_unstable();
    techniques.dedup();
    techniques.truncate(MAX_TECHNIQUES);
    techniques
}

#[cfg(test)]
mod tests;
