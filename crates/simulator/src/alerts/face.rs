//! What a tenant looks like from the inside: its company, people and devices. Nothing here is stored; person
//! seven of tenant three is worked out from the seed whenever somebody asks, and is always the same.

use super::text::{self, Culture};
use crate::dice::Dice;
use uuid::Uuid;

const PEOPLE: usize = 40;
const DEVICES: usize = 60;

/// One customer's company, as its alerts show it.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) index: usize,
    pub(crate) seed: u64,
    pub(crate) directory_id: Uuid,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) culture: Culture,
    /// The short Windows name of the company's domain.
    pub(crate) nt_domain: String,
}

/// Somebody who works there.
pub(crate) struct Person {
    pub(crate) display: String,
    pub(crate) account: String,
    pub(crate) upn: String,
    pub(crate) object_id: Uuid,
    pub(crate) sid: String,
}

/// A machine they work on.
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) directory_id: Uuid,
    pub(crate) host: String,
    pub(crate) dns_name: String,
    pub(crate) platform: &'static str,
    pub(crate) version: &'static str,
    pub(crate) build: i64,
    pub(crate) address: String,
    pub(crate) group: &'static str,
    pub(crate) group_id: i64,
    pub(crate) is_server: bool,
}

impl Face {
    pub(crate) fn of(seed: u64, index: usize) -> Face {
        let mut dice = Dice::of(&[seed, 0xFACE, index as u64]);
        let directory_id = dice.uuid();
        let (name, domain, culture) = text::company(index, &mut dice);
        let nt_domain: String = domain.split('.').next().unwrap_or("corp").chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        Face { index, seed, directory_id, name, domain, culture, nt_domain: nt_domain.to_uppercase() }
    }

    /// Dice for one purpose within this tenant.
    pub(crate) fn dice(&self, purpose: u64, number: u64) -> Dice {
        Dice::of(&[self.seed, self.index as u64, purpose, number])
    }

    pub(crate) fn someone(&self, dice: &mut Dice) -> Person {
        self.person(dice.below(PEOPLE))
    }

    pub(crate) fn person(&self, number: usize) -> Person {
        let mut dice = self.dice(1, number as u64);
        let first = dice.pick(text::first_names(self.culture));
        let last = dice.pick(text::last_names(self.culture));
        let account = format!("{}.{}", text::plain_letters(first), text::plain_letters(last));
        let account = if number < 20 { account } else { format!("{account}{number}") };
        Person {
            display: format!("{first} {last}"),
            upn: format!("{account}@{}", self.domain),
            account,
            object_id: dice.uuid(),
            sid: format!(
                "S-1-5-21-{}-{}-{}-{}",
                dice.between(1_000_000_000, 3_999_999_999),
                dice.between(100_000_000, 3_999_999_999),
                dice.between(100_000_000, 999_999_999),
                1100 + number
            ),
        }
    }

    pub(crate) fn some_device(&self, dice: &mut Dice) -> Device {
        self.device(dice.below(DEVICES))
    }

    pub(crate) fn device(&self, number: usize) -> Device {
        let mut dice = self.dice(2, number as u64);
        let is_server = number % 6 == 5;
        let (platform, version, build) = if is_server {
            dice.pick(&[("WindowsServer2022", "21H2", 20348), ("WindowsServer2019", "1809", 17763), ("Linux", "Other", 0)])
        } else {
            dice.pick(&[("Windows11", "24H2", 26100), ("Windows11", "23H2", 22631), ("Windows10", "22H2", 19045), ("macOS", "15.5", 24)])
        };
        let host =
            if is_server { format!("{}-srv-{number:02}", self.nt_domain.to_lowercase()) } else { format!("lt-{}-{}", number, dice.hex(4)) };
        let (group, group_id) =
            dice.pick(&[("UnassignedGroup", 75), ("Workstations", 81), ("Servers", 90), ("Økonomi / Finance", 104), ("Yazılım", 117)]);
        Device {
            id: dice.hex(40),
            directory_id: dice.uuid(),
            dns_name: format!("{host}.{}", self.domain),
            host,
            platform,
            version,
            build,
            address: format!("10.{}.{}.{}", dice.below(200), dice.below(250), 2 + dice.below(250)),
            group,
            group_id,
            is_server,
        }
    }
}
