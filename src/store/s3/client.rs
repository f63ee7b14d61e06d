//! The connection to an S3 server: where it is, who we are, by which way.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::TrustStore;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::retry::{Failure, Kind, chain};
use crate::aws::INSTANCE_METADATA;
use crate::config::s3::{Checksums, S3Config};
use crate::error::Explain;
use crate::secret::refuse_exposed;
use crate::store::without_secrets;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// A client by the settings and the standard credential chain.
///
/// # Errors
/// [`Kind::Refused`] says what is missing, [`Kind::Transient`] who did not give us credentials now.
pub(super) async fn connect(settings: &S3Config) -> Result<Client, Failure> {
    let refused = |reason: String| Failure::new(Kind::Refused, reason);
    let http = http_client(settings).map_err(refused)?;
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled());
    if let Some(region) = region(settings) {
        loader = loader.region(Region::new(region));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(path) = &settings.credentials_file {
        // The chain would go on without a file that is named and not there.
        refuse_exposed(path).map_err(|error| {
            let hint = error.hint().map(|hint| format!("; {hint}"));
            refused(format!("{error}{}", hint.unwrap_or_default()))
        })?;
        let files = EnvConfigFiles::builder()
            .include_default_config_file(true)
            .with_file(EnvConfigFileKind::Credentials, path)
            .build();
        loader = loader.profile_files(files);
    }
    let shared = loader.load().await;
    let credentials = shared
        .credentials_provider()
        .ok_or_else(|| refused("no AWS credentials were found".into()))?;
    credentials.provide_credentials().await.map_err(|error| {
        Failure::new(
            lasting(&error),
            format!("no AWS credentials: {}", chain(&error)),
        )
    })?;

    let mut config =
        aws_sdk_s3::config::Builder::from(&shared).force_path_style(settings.path_style);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint.as_str());
    }
    if shared.region().is_none() {
        return Err(refused("no region: set [s3] region, or AWS_REGION".into()));
    }
    if settings.checksums == Checksums::Md5 {
        config = config
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Ok(Client::from_conf(config.build()))
}

/// Whether it may be otherwise the next time: an STS or an instance's metadata service has its hiccups, too.
fn lasting(error: &CredentialsError) -> Kind {
    match error {
        CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
            Kind::Transient
        }
        _ => Kind::Refused,
    }
}

/// Which server a bucket is on: the address, or AWS, where names of buckets are everybody's, whatever the region.
pub(super) fn server(settings: &S3Config) -> String {
    let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    match &settings.endpoint {
        Some(endpoint) => endpoint.to_string(),
        // It is written down and shown.
        None => named.map_or_else(|| "AWS".into(), |url| without_secrets(&url)),
    }
}

/// The region, where the chain need not be asked. Servers other than AWS mostly do not care, but the signature needs
/// one, and there is no instance to be asked for it.
fn region(settings: &S3Config) -> Option<String> {
    let named = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    match (&settings.region, &settings.endpoint) {
        (Some(region), _) => Some(region.clone()),
        (None, Some(_)) => Some(named.unwrap_or_else(|| "us-east-1".into())),
        (None, None) => None,
    }
}

/// Whether `pem` holds certificates, and only such as can be used: the client takes it for granted, and panics.
fn check_authorities(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| chain(&error)))
            .map_err(|error| format!("a certificate in it cannot be read: {error}"))?;
    }
    match roots.is_empty() {
        true => Err("there is no certificate in it".into()),
        false => Ok(()),
    }
}

fn http_client(settings: &S3Config) -> Result<SharedHttpClient, String> {
    let mut trusted = TrustStore::default();
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path)
            .map_err(|error| format!("cannot read ca_file {}: {error}", path.display()))?;
        check_authorities(&pem)
            .map_err(|reason| format!("ca_file {}: {reason}", path.display()))?;
        trusted = trusted.with_pem_certificate(pem);
    }
    let proxy = match &settings.proxy {
        Some(proxy) => ProxyConfig::all(proxy.reveal())
            .map_err(|_| format!("the proxy {proxy} is no address"))?
            .no_proxy(INSTANCE_METADATA),
        None => ProxyConfig::from_env(),
    };
    crate::aws::http_client(trusted, proxy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_fails_is_asked_again_and_one_that_is_missing_is_not() {
        for (error, expected) in [
            (CredentialsError::provider_error("503"), Kind::Transient),
            (
                CredentialsError::provider_timed_out(CONNECT),
                Kind::Transient,
            ),
            (CredentialsError::not_loaded_no_source(), Kind::Refused),
            (CredentialsError::invalid_configuration("x"), Kind::Refused),
        ] {
            assert_eq!(lasting(&error), expected, "{error}");
        }
    }
}
