//! Who this host is, by the instance's metadata service (IMDSv2: a token first, then questions).

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use aws_config::imds;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::SharedHttpClient;
use thiserror::Error;

use super::ids::InstanceId;
use crate::config::s3::Endpoint;
use crate::error::{Exit, Explain};

/// How long a connection may take, and an answer. The service is in the host's own hypervisor: one that is there answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(2);
/// How often each question is asked.
const TRIES: u32 = 2;
/// The service's own address.
pub const ADDRESS: &str = "http://169.254.169.254";

/// Why the metadata service does not tell who this host is.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// Nothing answers.
    #[error("the instance metadata service at {address} does not answer: {detail}")]
    Silent {
        /// Where it was asked.
        address: String,
        /// What happened.
        detail: String,
    },
    /// It gives no token.
    #[error("the instance metadata service at {address} gives no token (IMDSv2): {detail}")]
    NoToken {
        /// Where it was asked.
        address: String,
        /// What happened.
        detail: String,
    },
    /// It does not say what it was asked for.
    #[error("the instance metadata service at {address} does not say {what}: {detail}")]
    NoAnswer {
        /// Where it was asked.
        address: String,
        /// What for.
        what: &'static str,
        /// What happened.
        detail: String,
    },
}

impl Explain for MetadataError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Silent { .. } => {
                "if this host is an EC2 instance: its metadata service may be off (`aws ec2 modify-instance-metadata-options --http-endpoint \
                 enabled`), or we run in a container and the answer may travel one hop only (--http-put-response-hop-limit 2); else set [ebs] \
                 instance and region"
                    .into()
            }
            Self::NoToken { .. } => {
                "look at `aws ec2 describe-instances`, MetadataOptions (in a container HttpPutResponseHopLimit must be 2); or set [ebs] instance and region, so that it need not be asked".into()
            }
            Self::NoAnswer { .. } => "set [ebs] instance and region".into(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::Refused
    }
}

/// The metadata service.
#[derive(Debug)]
pub struct Metadata {
    client: imds::Client,
    address: String,
}

impl Metadata {
    /// The service at `address`, or where it always is. Nothing is asked yet.
    ///
    /// # Errors
    /// [`MetadataError::Silent`] where the address is none.
    pub fn new(http: SharedHttpClient, address: Option<&Endpoint>) -> Result<Self, MetadataError> {
        let address = address.map_or_else(|| ADDRESS.to_owned(), ToString::to_string);
        let settings = ProviderConfig::without_region().with_http_client(http);
        let builder = imds::Client::builder()
            .configure(&settings)
            .connect_timeout(ANSWER)
            .read_timeout(ANSWER)
            .max_attempts(TRIES);
        match builder.endpoint(&address) {
            Ok(builder) => Ok(Self {
                client: builder.build(),
                address,
            }),
            Err(error) => Err(MetadataError::Silent {
                address,
                detail: error.to_string(),
            }),
        }
    }

    /// The instance's id.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn instance(&self) -> Result<InstanceId, MetadataError> {
        let what = "which instance this is";
        let text = self.ask("/latest/meta-data/instance-id", what).await?;
        InstanceId::from_str(text.trim()).map_err(|error| MetadataError::NoAnswer {
            address: self.address.clone(),
            what,
            detail: error.to_string(),
        })
    }

    /// The instance's region.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn region(&self) -> Result<String, MetadataError> {
        let what = "in which region this is";
        let text = self
            .ask("/latest/meta-data/placement/region", what)
            .await?
            .trim()
            .to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        // It becomes part of a host name.
        match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
            true => Ok(text),
            false => Err(MetadataError::NoAnswer {
                address: self.address.clone(),
                what,
                detail: format!("{text:?} is no region"),
            }),
        }
    }

    async fn ask(&self, path: &str, what: &'static str) -> Result<String, MetadataError> {
        let asked = self.client.get(path).await;
        asked
            .map(String::from)
            .map_err(|error| explain(&self.address, what, &error))
    }
}

/// The SDK's errors, told apart by what an operator would do.
fn explain(address: &str, what: &'static str, error: &ImdsError) -> MetadataError {
    let address = address.to_owned();
    match error {
        ImdsError::FailedToLoadToken(token) if token.is_dispatch_failure() => {
            MetadataError::Silent {
                address,
                detail: last(error),
            }
        }
        ImdsError::FailedToLoadToken(_) => {
            let detail = last(error);
            // The first question is for the token, and so is the first silence.
            match detail.contains("timed out") || detail.contains("timeout") {
                true => MetadataError::Silent { address, detail },
                false => MetadataError::NoToken { address, detail },
            }
        }
        ImdsError::ErrorResponse(response) => MetadataError::NoAnswer {
            address,
            what,
            detail: format!("status {}", response.response().status().as_u16()),
        },
        error => MetadataError::NoAnswer {
            address,
            what,
            detail: last(error),
        },
    }
}

/// The innermost cause, which says most.
fn last(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
