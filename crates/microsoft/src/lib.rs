#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! | Module | What it knows |
//! | --- | --- |
//! | [`clouds`] | where Microsoft is: addresses and scopes of the national clouds |
//! | [`app`] | who we are there: an app registration and its grant |
//! | [`certificates`] | what it may prove itself with: certificates and their keys |
//! | [`http`] | the one client, and the one place that attaches an access token to a request |
//! | [`oauth`] | getting access tokens, having people sign in; what each sign-in error means |
//! | [`alerts`], [`query`] | reading pages of alerts and incidents |
//! | [`error`] | why a page could not be read |
//! | [`extract`] | one raw record to an alert, an incident or poison |
//! | [`evidence`] | what an alert names: devices, users, addresses, files |

pub mod alerts;
pub mod app;
pub mod certificates;
pub mod clouds;
pub mod error;
pub mod evidence;
pub mod extract;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod http;
mod members;
pub mod oauth;
pub mod query;
mod split;
mod throttle;

pub use alerts::{AlertsApi, Page, max_page, max_skip, supports_order};
pub use app::{App, Endpoint, Grant};
pub use clouds::{Cloud, CloudError, built_in};
pub use error::{ApiError, ApiErrorKind};
pub use http::{Http, HttpError, HttpSettings, Resolver};
pub use oauth::{
    Ask, Code, Desk, DeviceCode, DevicePoll, Directory, MaybeOurs, Redeemed, Returned, Said, SignIn, SignInError, SignedIn,
    TOO_MANY_REQUESTS, Turns,
};
pub use query::{Facet, FacetField, NextLink, PageQuery, WindowQuery, facets};
pub use throttle::read_http_date as http_date;
