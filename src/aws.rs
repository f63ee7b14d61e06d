//! What every connection to AWS has in common: S3, EC2, the metadata service.

use std::error::Error;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};

/// Where instance credentials come from; no proxy stands before it.
pub(crate) const INSTANCE_METADATA: &str = "169.254.169.254,169.254.170.2,fd00:ec2::254";

/// An HTTP client that trusts what `trusted` says and goes by `proxy`.
///
/// # Errors
/// What the TLS library says.
pub fn http_client(trusted: TrustStore, proxy: ProxyConfig) -> Result<SharedHttpClient, String> {
    let tls = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| chain(&error))?;
    Ok(
        Builder::new().build_with_connector_fn(move |settings, runtime| {
            let mut builder = Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(tls.clone())
                .proxy_config(proxy.clone());
            builder.set_connector_settings(settings.cloned());
            builder.set_sleep_impl(runtime.and_then(|runtime| runtime.sleep_impl()));
            builder.build()
        }),
    )
}

/// The error and its causes, each said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// Everything but letters, digits, `-`, `_`, `.` and `~` as `%XX`.
pub(crate) fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
