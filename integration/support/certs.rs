//! A certificate authority for one test: mongod's certificate and a client's.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// PEM files, as mongod and its clients take them.
pub struct Certs {
    /// The authority.
    pub ca: PathBuf,
    /// mongod's certificate and key.
    pub server: PathBuf,
    /// A client's certificate and key.
    pub client: PathBuf,
}

/// The client certificate's subject, as MongoDB writes it.
pub const CLIENT_SUBJECT: &str = "CN=freezeframe,OU=backup,O=client";

impl Certs {
    /// Makes all of them in `dir`.
    pub fn make(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca_file = dir.join("ca.pem");
        fs::write(&ca_file, ca.pem()).unwrap();
        // MongoDB takes a client whose O and OU equal the server's for another server.
        let server = issue(&ca, "mongod", "server", "database");
        let client = issue(&ca, "freezeframe", "client", "backup");
        let write = |name: &str, pem: String| {
            let file = dir.join(name);
            fs::write(&file, pem).unwrap();
            file
        };
        Self {
            ca: ca_file,
            server: write("server.pem", server),
            client: write("client.pem", client),
        }
    }
}

fn issue(ca: &CertifiedIssuer<'_, KeyPair>, name: &str, org: &str, unit: &str) -> String {
    let sans = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(sans).unwrap();
    let subject = &mut params.distinguished_name;
    *subject = rcgen::DistinguishedName::new();
    subject.push(DnType::OrganizationName, org);
    subject.push(DnType::OrganizationalUnitName, unit);
    subject.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    certificate.pem() + &key.serialize_pem()
}
