//! Where a message may go: the addresses of the internet, and others only where the operator says so.
//!
//! The addresses are judged where they are connected to, in place of the machine's own look-up. A name that is asked once
//! to be checked and once more to be connected to could answer differently (rebinding); here there is only one answer.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where machines are told who they are (metadata services), and what is no host at all. Never a receiver.
const NEVER: &[&str] = &[
    "0.0.0.0/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.192/32",
    "224.0.0.0/3",
    "::/128",
    "fd00:ec2::/32",
    "fe80::/10",
    "ff00::/8",
];
/// Not of the internet: this machine, its network, and what is set apart for other ends (IANA's special-purpose registry).
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];
/// What of IPv6 belongs to the internet, but for the above.
const GLOBAL_V6: &str = "2000::/3";
/// IPv4 addresses written as IPv6 ones, by a translator between the two.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// An address that nothing is sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// No receiver can be there.
    #[error("{0} is a link-local, metadata or reserved address, to which nothing is ever sent")]
    Never(IpAddr),
    /// One of this machine or its network.
    #[error("{0} is a private address; set notify.allow_private = true if the receiver is meant to be there")]
    Private(IpAddr),
}

/// Which addresses besides those of the internet are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Those of private networks, and of this machine.
    pub allow_private: bool,
    /// Those of this machine.
    pub allow_loopback: bool,
}

impl Guard {
    /// Whether a message may be sent to this address.
    ///
    /// # Errors
    /// [`Forbidden`], in a sentence.
    pub fn check(self, address: IpAddr) -> Result<(), Forbidden> {
        let judged = unwrapped(address);
        if among(NEVER, judged) {
            return Err(Forbidden::Never(address));
        }
        let global = match judged {
            IpAddr::V4(_) => true,
            IpAddr::V6(_) => among(&[GLOBAL_V6], judged),
        };
        let allowed = self.allow_private || self.allow_loopback && judged.is_loopback();
        if (!global || among(PRIVATE, judged)) && !allowed {
            return Err(Forbidden::Private(address));
        }
        Ok(())
    }
}

fn among(nets: &[&str], address: IpAddr) -> bool {
    nets.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&address))
}

/// The IPv4 address inside of an IPv6 one, where that is what is meant.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let [a, b, c, d, e, f, g, h] = six.segments();
    if [a, b, c, d, e, f] == NAT64 {
        let [g1, g2] = g.to_be_bytes();
        let [h1, h2] = h.to_be_bytes();
        return IpAddr::from([g1, g2, h1, h2]);
    }
    Ipv6Addr::to_ipv4_mapped(&six).map_or(address, IpAddr::V4)
}

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type LookUp = dyn Fn(String) -> Found + Send + Sync;

/// Looks names up, and refuses one that leads to a forbidden address, whatever else it leads to.
#[derive(Clone)]
pub struct Resolver {
    guard: Guard,
    look_up: Arc<LookUp>,
}

impl Resolver {
    /// Asks the machine.
    pub fn new(guard: Guard) -> Self {
        Self::asking(guard, |name| Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }))
    }

    /// Asks `look_up` instead.
    pub fn asking(guard: Guard, look_up: impl Fn(String) -> Found + Send + Sync + 'static) -> Self {
        Self { guard, look_up: Arc::new(look_up) }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, found) = (self.guard, (self.look_up)(name.as_str().to_owned()));
        Box::pin(async move {
            let found = found.await?;
            for address in &found {
                guard.check(address.ip())?;
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Guard = Guard { allow_private: true, allow_loopback: true };

    #[test]
    fn only_the_internet_is_reached_unless_the_operator_says_otherwise() {
        for public in ["1.1.1.1", "52.96.0.1", "223.255.255.254", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert_eq!(Guard::default().check(public.parse().unwrap()), Ok(()), "{public}");
        }
        for private in [
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.7",
            "::1",
            "fc00::1",
            "fd12::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
        ] {
            let address = private.parse().unwrap();
            assert_eq!(Guard::default().check(address), Err(Forbidden::Private(address)), "{private}");
            assert_eq!(OPEN.check(address), Ok(()), "{private}");
        }
        for never in [
            "0.0.0.0",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            let address = never.parse().unwrap();
            assert_eq!(OPEN.check(address), Err(Forbidden::Never(address)), "{never}");
        }
        let own = Guard { allow_loopback: true, ..Guard::default() };
        assert!(own.check("127.0.0.1".parse().unwrap()).is_ok() && own.check("::1".parse().unwrap()).is_ok());
        assert!(own.check("10.0.0.1".parse().unwrap()).is_err());
    }

    #[test]
    fn every_net_of_the_lists_is_one() {
        for net in NEVER.iter().chain(PRIVATE).chain([&GLOBAL_V6]) {
            assert!(net.parse::<IpNet>().is_ok(), "{net}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_at_every_look_up_by_every_address_that_it_has() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let times = Arc::new(AtomicUsize::new(0));
        // First of the internet, then rebound: to this machine, and to both.
        let answers: [&[&str]; 3] = [&["1.1.1.1:0"], &["127.0.0.1:0"], &["1.1.1.1:0", "169.254.169.254:0"]];
        let resolver = Resolver::asking(Guard::default(), move |_| {
            let addresses = answers[times.fetch_add(1, Ordering::Relaxed)].iter().map(|text| text.parse().unwrap()).collect();
            Box::pin(async move { Ok(addresses) })
        });
        let ask = async || resolver.resolve("hooks.example".parse().unwrap()).await.map(Iterator::count).map_err(|error| error.to_string());
        assert_eq!(ask().await, Ok(1));
        assert!(ask().await.unwrap_err().contains("127.0.0.1 is a private address"));
        assert!(ask().await.unwrap_err().contains("169.254.169.254 is a link-local, metadata"));
    }
}
