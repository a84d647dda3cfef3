//! Mail into a folder, one `.eml` file a message: for trying things out, and for hosts without a mail server.

use super::{
    Channel, DeliveryError, Message, Receipt,
    mail::{Form, Letter},
};
use async_trait::async_trait;
use pgbosun_core::config::Mail;
use std::path::PathBuf;

pub(super) struct Folder {
    folder: PathBuf,
    form: Form,
}

impl Folder {
    pub fn new(mail: &Mail, form: Form) -> Self {
        // The configuration check has made sure of the folder.
        Self { folder: mail.folder.clone().unwrap_or_default(), form }
    }
}

#[async_trait]
impl Channel for Folder {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let Letter { mail, missed, .. } = self.form.compose(message, true)?;
        let bytes = mail.map(|mail| mail.formatted()).unwrap_or_default();
        let name = format!("{}-{}.eml", message.bulletin.at.format("%Y%m%dT%H%M%S"), message.id.simple());
        let (folder, path) = (self.folder.clone(), self.folder.join(name));
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            pgbosun_core::publish::publish(&path, 0o640, &bytes)
        });
        match written.await {
            Ok(Ok(())) => Ok(Receipt { detail: shown, missed }),
            Ok(Err(error)) => Err(DeliveryError::Folder(self.folder.display().to_string(), error)),
            Err(error) => Err(DeliveryError::Folder(shown, std::io::Error::other(error))),
        }
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        let failed = |error| DeliveryError::Folder(self.folder.display().to_string(), error);
        tokio::fs::create_dir_all(&self.folder).await.map_err(failed)?;
        Ok(Receipt::new(format!("mail is written to {}", self.folder.display())))
    }
}
