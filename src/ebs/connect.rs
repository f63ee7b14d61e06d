//! The way to EC2: by the configuration, and where that says nothing by the metadata service.

use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::TrustStore;

use super::ids::InstanceId;
use super::metadata::Metadata;
use super::{EbsError, Place, SharedEc2};
use crate::aws;
use crate::config::ebs::EbsConfig;
use crate::manifest::snapshots::Located;
use crate::store::without_secrets;

/// Until so long nothing new has come nothing more is looked for of a call that was not answered.
const QUIET: Duration = Duration::from_secs(60);

/// How to reach EC2. Nothing is asked until something is opened.
#[derive(Debug, Clone)]
pub struct Access {
    settings: EbsConfig,
    quiet: Duration,
}

impl Default for Access {
    fn default() -> Self {
        Self::new(EbsConfig::default())
    }
}

impl Access {
    /// By these settings.
    pub fn new(settings: EbsConfig) -> Self {
        Self {
            settings,
            quiet: QUIET,
        }
    }

    /// The same, where a server shows what it made after `quiet` at the latest.
    pub fn quiet_after(self, quiet: Duration) -> Self {
        Self { quiet, ..self }
    }

    /// For how long nothing new must have been shown, before nothing more is looked for of a call that was not answered.
    pub fn quiet(&self) -> Duration {
        self.quiet
    }

    /// The way to the region that copies go to, by `[ebs] copy_endpoint`. [`Access::open`] of it leads to `copy_to`.
    pub fn for_copies(&self) -> Self {
        Self {
            settings: EbsConfig {
                region: self.settings.copy_to.clone(),
                endpoint: self.settings.copy_endpoint.clone(),
                ..self.settings.clone()
            },
            quiet: self.quiet,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &EbsConfig {
        &self.settings
    }

    /// The instance whose volumes are pictured.
    ///
    /// # Errors
    /// [`EbsError::Metadata`] where neither settings nor metadata service tell.
    pub async fn instance(&self) -> Result<InstanceId, EbsError> {
        match &self.settings.instance {
            Some(instance) => Ok(instance.clone()),
            None => Ok(self.metadata()?.instance().await?),
        }
    }

    /// EC2 where the instance is.
    ///
    /// # Errors
    /// [`EbsError`].
    pub async fn open(&self) -> Result<SharedEc2, EbsError> {
        let region = match &self.settings.region {
            Some(region) => region.as_str().to_owned(),
            None => self.metadata()?.region().await?,
        };
        self.in_region(region).await
    }

    /// EC2 where snapshots were made, to give them back or look at them. The region is the one they are in; the server has to be the same.
    ///
    /// # Errors
    /// [`EbsError::OtherPlace`] where the settings lead to another server: what is not there would be taken for gone.
    pub async fn open_at(&self, place: &Place) -> Result<SharedEc2, EbsError> {
        let found = Place {
            region: place.region.clone(),
            endpoint: self.endpoint(),
        };
        if found != *place {
            return Err(EbsError::OtherPlace {
                written: place.clone(),
                found,
            });
        }
        self.in_region(place.region.clone()).await
    }

    /// EC2 where `located` is.
    ///
    /// # Errors
    /// As [`Access::open_at`].
    pub async fn open_located(&self, located: &Located) -> Result<SharedEc2, EbsError> {
        match located.copied {
            true => self.for_copies().open_at(&located.place).await,
            false => self.open_at(&located.place).await,
        }
    }

    /// The server, where it is not AWS's own: by the settings, or by the environment as the SDK reads it.
    pub fn endpoint(&self) -> Option<String> {
        let named = || {
            let mut names = ["AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"].into_iter();
            // It is written down and shown.
            names.find_map(|name| Some(without_secrets(&std::env::var(name).ok()?)))
        };
        let set = self.settings.endpoint.as_ref().map(ToString::to_string);
        set.or_else(named)
    }

    async fn in_region(&self, region: String) -> Result<SharedEc2, EbsError> {
        let place = Place {
            region,
            endpoint: self.endpoint(),
        };
        #[cfg(feature = "ebs")]
        return super::client::connect(
            &self.settings,
            place,
            http_client(ProxyConfig::from_env())?,
        )
        .await;
        #[cfg(not(feature = "ebs"))]
        {
            tracing::debug!(%place, "not built in");
            Err(EbsError::NotBuiltIn)
        }
    }

    fn metadata(&self) -> Result<Metadata, EbsError> {
        // No proxy can stand before an address that every host has for itself.
        let http = http_client(ProxyConfig::disabled())?;
        Ok(Metadata::new(http, self.settings.metadata.as_ref())?)
    }
}

fn http_client(proxy: ProxyConfig) -> Result<SharedHttpClient, EbsError> {
    aws::http_client(TrustStore::default(), proxy).map_err(|reason| EbsError::NoClient {
        reason,
        passing: false,
    })
}
