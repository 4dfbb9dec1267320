//! Files, processes, addresses and the like: the facts behind a piece of evidence, drawn once, so that Graph
//! and Defender for Endpoint tell the same story about the same alert in their different shapes.

use super::face::{Device, Face, Person};
use super::text;
use crate::dice::Dice;
use crate::json::Json;
use crate::stamp::Stamp;
use std::time::Duration;

/// A file on a device.
pub(super) struct FileFacts {
    pub(super) name: String,
    pub(super) path: &'static str,
    pub(super) sha1: String,
    pub(super) sha256: String,
    pub(super) md5: String,
    pub(super) size: i64,
    pub(super) publisher: Option<&'static str>,
}

const PROGRAMS: &[(&str, &str, Option<&str>)] = &[
    ("powershell.exe", "C:\\Windows\\System32\\WindowsPowerShell\\v1.0", Some("Microsoft Corporation")),
    ("rundll32.exe", "C:\\Windows\\System32", Some("Microsoft Corporation")),
    ("svch0st.exe", "C:\\Users\\Public\\Libraries", None),
    ("WINWORD.EXE", "C:\\Program Files\\Microsoft Office\\root\\Office16", Some("Microsoft Corporation")),
    ("anydesk_portable.exe", "C:\\ProgramData\\Temp", Some("philandro Software GmbH")),
    ("cmd.exe", "C:\\Windows\\SysWOW64", Some("Microsoft Corporation")),
    ("python3.12", "/usr/bin", None),
    ("wscript.exe", "C:\\Windows\\System32", Some("Microsoft Corporation")),
];

impl FileFacts {
    fn of(name: String, path: &'static str, publisher: Option<&'static str>, dice: &mut Dice) -> FileFacts {
        FileFacts {
            name,
            path,
            sha1: dice.hex(40),
            sha256: dice.hex(64),
            md5: dice.hex(32),
            size: dice.between(900, 48_000_000),
            publisher,
        }
    }

    pub(super) fn program(dice: &mut Dice) -> FileFacts {
        let (name, path, publisher) = dice.pick(PROGRAMS);
        FileFacts::of(name.to_owned(), path, publisher, dice)
    }

    pub(super) fn document(face: &Face, dice: &mut Dice) -> FileFacts {
        if dice.chance(0.3) {
            return FileFacts::program(dice);
        }
        let name = dice.pick(text::documents(face.culture)).to_string();
        let path =
            dice.pick(&["C:\\Users\\Public\\Documents", "\\\\filer01\\fælles\\økonomi", "C:\\Kullanıcılar\\Ortak\\İK", "/home/shared"]);
        FileFacts::of(name, path, None, dice)
    }

    pub(super) fn write(&self, json: &mut Json) {
        json.str("sha1", &self.sha1);
        json.str("sha256", &self.sha256);
        json.str("md5", &self.md5);
        json.null("sha256Ac");
        json.str("fileName", &self.name);
        json.str("filePath", self.path);
        json.num("fileSize", self.size);
        json.maybe("filePublisher", self.publisher);
        json.maybe(
            "signer",
            self.publisher.map(|_| "Microsoft Windows Production PCA 2011").filter(|_| self.publisher == Some("Microsoft Corporation")),
        );
        json.null("issuer");
    }
}

/// A process and the one that started it.
pub(super) struct ProcessFacts {
    pub(super) image: FileFacts,
    pub(super) parent: FileFacts,
    pub(super) id: i64,
    pub(super) parent_id: i64,
    pub(super) command_line: String,
    pub(super) started: Stamp,
    pub(super) parent_started: Stamp,
}

impl ProcessFacts {
    pub(super) fn draw(face: &Face, created: Stamp, dice: &mut Dice) -> ProcessFacts {
        let image = FileFacts::program(dice);
        let parent = FileFacts::program(dice);
        let command_line = command_line(face, &image, dice);
        let started = created.minus(Duration::from_micros(dice.between(900_000, 400_000_000) as u64)).plus(Duration::from_nanos(100));
        ProcessFacts {
            parent_started: started.minus(Duration::from_micros(dice.between(1_000, 9_000_000_000) as u64)),
            id: dice.between(400, 65_000),
            parent_id: dice.between(400, 65_000),
            image,
            parent,
            command_line,
            started,
        }
    }
}

fn command_line(face: &Face, image: &FileFacts, dice: &mut Dice) -> String {
    use base64::Engine as _;
    match dice.below(5) {
        0 => {
            let length = 90 + dice.below(700);
            let blob = base64::engine::general_purpose::STANDARD.encode(dice.bytes(length));
            format!("\"{}\\{}\" -nop -w hidden -EncodedCommand {blob}", image.path, image.name)
        }
        1 => format!("{} /c \"copy \\\\filer01\\løn\\*.xlsx %TEMP%\\ışık && tar -cf ud.tar *.xlsx\"", image.name),
        2 => format!("{}  c:\\temp\\{}.dll,Start\t/q", image.name, dice.hex(6)),
        3 => format!("\"{}\" \"{}\"", image.name, dice.pick(text::documents(face.culture))),
        _ => format!("{} --proxy socks5://{}:{} --quiet", image.name, outside_address(dice), dice.between(1024, 65_000)),
    }
}

/// An address outside of the company; now and then one of the new kind.
pub(super) fn outside_address(dice: &mut Dice) -> String {
    if dice.chance(0.15) {
        format!("2001:db8:{:x}:{:x}::{:x}", dice.below(0xffff), dice.below(0xffff), dice.below(0xffff))
    } else {
        let net = dice.pick(&["203.0.113", "198.51.100", "192.0.2"]);
        format!("{net}.{}", 1 + dice.below(254))
    }
}

pub(super) fn web_address(dice: &mut Dice) -> String {
    let host =
        dice.pick(&["login-verify.example", "paket-takip.example", "faktura-kontor.example", "cdn.sharedocs.example", "xn--k-xga.example"]);
    format!("https://{host}/{}/{}?id={}&r=%20%2F", dice.hex(6), dice.pick(&["index.html", "giriş", "opdatér", "view"]), dice.hex(12))
}

/// Hive, key, name and value of a registry entry that survives a restart.
pub(super) fn registry(dice: &mut Dice) -> (&'static str, String, &'static str, String) {
    let (hive, key) = dice.pick(&[
        ("HKEY_CURRENT_USER", "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"),
        ("HKEY_LOCAL_MACHINE", "SYSTEM\\CurrentControlSet\\Services\\WinUpdHelper"),
        ("HKEY_LOCAL_MACHINE", "SOFTWARE\\Policies\\Microsoft\\Windows Defender"),
    ]);
    let name = dice.pick(&["Updater", "ImagePath", "DisableAntiSpyware"]);
    (hive, key.to_owned(), name, format!("C:\\ProgramData\\{}.exe", dice.hex(8)))
}

/// The five facts every user account shows.
pub(super) fn write_account(json: &mut Json, face: &Face, person: &Person) {
    json.str("accountName", &person.account);
    json.str("domainName", &face.nt_domain);
    json.str("userSid", &person.sid);
    json.uuid("azureAdUserId", person.object_id);
    json.str("userPrincipalName", &person.upn);
    json.str("displayName", &person.display);
}

/// The facts of a device that Graph shows as evidence.
pub(super) fn write_device(json: &mut Json, face: &Face, device: &Device, owner: &Person, seen: Stamp, dice: &mut Dice) {
    json.stamp("firstSeenDateTime", seen);
    json.str("mdeDeviceId", &device.id);
    json.uuid("azureAdDeviceId", device.directory_id);
    json.str("deviceDnsName", &device.dns_name);
    json.str("hostName", &device.host);
    json.str("ntDomain", &face.nt_domain);
    json.str("dnsDomain", &face.domain);
    json.str("osPlatform", device.platform);
    json.num("osBuild", device.build);
    json.str("version", device.version);
    json.str("healthStatus", dice.pick(&["active", "active", "inactive", "noSensorData"]));
    json.str("riskScore", dice.pick(&["none", "low", "medium", "high"]));
    json.num("rbacGroupId", device.group_id);
    json.str("rbacGroupName", device.group);
    json.str("onboardingStatus", "onboarded");
    json.str("defenderAvStatus", dice.pick(&["updated", "notUpdated", "unknown"]));
    json.str("lastIpAddress", &device.address);
    json.str("lastExternalIpAddress", &outside_address(dice));
    json.strings("ipInterfaces", &[device.address.as_str(), "fe80::1c2a:8dff:fe3b:10", "127.0.0.1"]);
    if device.is_server {
        let subscription = dice.uuid();
        json.object("vmMetadata", |json| {
            json.uuid("vmId", dice.uuid());
            json.str("cloudProvider", "azure");
            json.str(
                "resourceId",
                &format!("/subscriptions/{subscription}/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/{}", device.host),
            );
            json.uuid("subscriptionId", subscription);
        });
    } else {
        json.null("vmMetadata");
    }
    json.array("loggedOnUsers", |json| {
        json.item(|json| {
            json.str("accountName", &owner.account);
            json.str("domainName", &face.nt_domain);
        });
    });
    json.array("resourceAccessEvents", |_| ());
}
