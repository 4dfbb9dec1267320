//! Who must do what: the sentences that several entries share.
//!
//! Each begins with the person who must act; "you" are the people of the security provider. A command to be typed
//! stands at the end, so that it can be copied; `{tenant}` in it is filled in with the tenant's name by whoever shows
//! the sentence ([`domain::Trouble::action_for`], and view `dash.tenant_health`).

pub(super) const NOTHING: &str = "nothing; we try again by ourselves";
pub(super) const NEW_LINK: &str =
    "the owner of the account that reads this tenant: sign in again through a new link; you make it with: tocsin tenant invite {tenant}";
pub(super) const NEW_LINK_AFTER_MFA: &str = "the owner of the account that reads this tenant: sign in again through a new link and answer the second factor; \
                                             you make it with: tocsin tenant invite {tenant}";
pub(super) const NEW_LINK_AFTER_PASSWORD: &str =
    "the owner of the account: set a new password, then sign in again through a new link; you make it with: tocsin tenant invite {tenant}";
pub(super) const ADMIN_CONSENT: &str =
    "the customer's administrator: open the consent link of our app and accept; you make it with: tocsin tenant invite {tenant}";
pub(super) const EXCLUDE_US: &str = "the customer's administrator: exclude the account that reads alerts from this conditional access policy, or allow this host's \
                                     address; or let our app read with its own permissions. If a new sign-in is needed, you make its link with: tocsin tenant invite {tenant}";
pub(super) const RESTORE_GUEST: &str = "the customer's administrator: invite the account again, or confirm that you no longer watch this tenant \
                                        (tocsin tenant remove {tenant}); then its owner signs in through a new link, made with: tocsin tenant invite {tenant}";
pub(super) const CONSENT_AGAIN: &str = "the customer's administrator: consent to our app again through a new link, or you: correct the app or the cloud of this tenant, and if \
                                        several tenants say so, see whether the app registration was deleted; you make the link with: tocsin tenant invite {tenant}";
pub(super) const SET_UP_SERVICE: &str = "the customer's administrator: open the Defender portal once so that the service is set up, then consent through a new link; \
                                         or you: take this source from the tenant. You make the link with: tocsin tenant invite {tenant}";
pub(super) const NEW_SECRET: &str =
    "you: make a new client secret of this app registration and put its value (not its id) into client_secret_file";
pub(super) const FIX_REGISTRATION: &str = "you: correct the app registration in your own tenant";
pub(super) const START_AGAIN: &str = "you: start the consent again with: tocsin tenant invite {tenant}";
pub(super) const CHECK_SCOPE: &str = "you: check graph_scope and defender_scope of this cloud in the configuration";
pub(super) const REPORT: &str = "the makers of tocsin: report this with the log line; meanwhile the alerts wait at Microsoft";
pub(super) const RIGHT_CLOUD: &str = "you: correct the cloud of this tenant in the import file and import it again";
