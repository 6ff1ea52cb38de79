//! Control's end of a socket into the wallet.

use std::{
    os::unix::net::UnixStream,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sluice_control_wallet::{Credential, Owner, Request, Response};
use sluice_node_identity::{IntegrationId, TenantId, UserId};
use thiserror::Error;

use crate::frame;

/// A wallet that does not answer for so long is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the wallet did not do what was asked.
#[derive(Debug, Error)]
pub enum WalletError {
    /// Its process is gone, or answered too late or nonsense; this client is of no further use.
    #[error("the wallet does not answer; control must be restarted")]
    Gone,
    /// The socket's grant does not cover it.
    #[error("this service may not ask the wallet for that")]
    NotGranted,
    /// The wallet failed; its log says why.
    #[error("the wallet failed; its log says why")]
    Failed,
}

/// A socket with one grant. Calls block (some microseconds to milliseconds): async callers use a blocking thread.
#[derive(Debug)]
pub struct Client {
    /// `None` once an exchange broke off: what came next could be the answer to another question.
    stream: Mutex<Option<UnixStream>>,
}

impl Client {
    /// Over a connected socket.
    ///
    /// # Errors
    /// When its time-outs cannot be set.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream: Mutex::new(Some(stream)) })
    }

    /// Whether an exchange broke off. Never waits: one that is under way has not broken off yet.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.stream.try_lock().is_ok_and(|held| held.is_none())
    }

    /// The service account's credential; grant `Sync`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn read_service(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
    ) -> Result<Option<Credential>, WalletError> {
        let (tenant, integration) = (tenant.clone(), integration.clone());
        credential(self.call(&Request::ReadService { tenant, integration })?)
    }

    /// A user's credential; grant `Actions`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn read_user(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        user: &UserId,
    ) -> Result<Option<Credential>, WalletError> {
        let (tenant, integration, user) = (tenant.clone(), integration.clone(), user.clone());
        credential(self.call(&Request::ReadUser { tenant, integration, user })?)
    }

    /// Stores a credential, replacing; durable when it returns; grant `Admin`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn write(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        owner: &Owner,
        credential: Credential,
    ) -> Result<(), WalletError> {
        let (tenant, integration, owner) = (tenant.clone(), integration.clone(), owner.clone());
        done(&self.call(&Request::Write { tenant, integration, owner, credential })?)
    }

    /// Removes a credential; grant `Admin`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn delete(&self, tenant: &TenantId, integration: &IntegrationId, owner: &Owner) -> Result<(), WalletError> {
        let (tenant, integration, owner) = (tenant.clone(), integration.clone(), owner.clone());
        done(&self.call(&Request::Delete { tenant, integration, owner })?)
    }

    /// Whether there is a credential; grant `Admin`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn exists(&self, tenant: &TenantId, integration: &IntegrationId, owner: &Owner) -> Result<bool, WalletError> {
        let (tenant, integration, owner) = (tenant.clone(), integration.clone(), owner.clone());
        match self.call(&Request::Exists { tenant, integration, owner })? {
            Response::Exists { exists } => Ok(exists),
            other => Err(unexpected(&other)),
        }
    }

    /// One question, one answer.
    ///
    /// # Errors
    /// [`WalletError::Gone`].
    pub fn call(&self, request: &Request) -> Result<Response, WalletError> {
        let mut held = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = held.take().ok_or(WalletError::Gone)?;
        let answer = frame::write(&stream, request).and_then(|()| frame::read(&stream));
        let Ok(Some(response)) = answer else { return Err(WalletError::Gone) };
        *held = Some(stream);
        Ok(response)
    }
}

fn credential(response: Response) -> Result<Option<Credential>, WalletError> {
    match response {
        Response::Credential { credential } => Ok(Some(credential)),
        Response::Absent => Ok(None),
        other => Err(unexpected(&other)),
    }
}

fn done(response: &Response) -> Result<(), WalletError> {
    match response {
        Response::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

const fn unexpected(response: &Response) -> WalletError {
    match response {
        Response::NotGranted => WalletError::NotGranted,
        _ => WalletError::Failed,
    }
}
