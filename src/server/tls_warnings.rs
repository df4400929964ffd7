//! What an operator should know about TLS files that can be used: a certificate that expires soon,
//! and a private key that others can read.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::config::Config;
use crate::net::tls_server;
use crate::protocol::Timestamp;

/// A certificate that expires within this time is reported.
const EXPIRY_NOTICE: Duration = Duration::from_secs(14 * 86_400);
/// Read and write for users other than the owner and the group, as in a file mode.
const OTHERS: u32 = 0o006;

/// The warnings for the configured TLS files at `now`; empty without TLS.
pub fn warnings(config: &Config, now: Timestamp) -> Vec<String> {
    let Some(tls) = &config.listen.tls else { return Vec::new() };
    let mut warnings = Vec::new();
    let certificate = tls.certificate.display();
    match tls_server::certificate_expiry(tls) {
        Some(expiry) if expiry <= now => warnings.push(format!(
            "{certificate}: the certificate expired at {expiry}, so clients refuse to connect; renew it and reload"
        )),
        Some(expiry) if expiry.since(now) < EXPIRY_NOTICE => warnings.push(format!(
            "{certificate}: the certificate expires at {expiry}; renew it and reload"
        )),
        _ => {}
    }
    // Many installations share a key with a group, so only other users count.
    if let Ok(found) = tls.key.metadata()
        && found.permissions().mode() & OTHERS != 0
    {
        let (key, mode) = (tls.key.display(), found.permissions().mode() & 0o7777);
        warnings.push(format!(
            "{key}: other users can read or write the private key (mode {mode:04o}); run: chmod o= {key}"
        ));
    }
    warnings
}

/// Logs the warnings.
pub fn log(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(event = "tls_warning", "{warning}");
    }
}
