//! Bytes over a Unix socket with descriptors beside them.
//!
//! Invariant: at most [`DESCRIPTORS_MAX`] go or come with one message; what is received is closed
//! when this process executes another program.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Descriptors that go with one message at most; more are left out.
pub(crate) const DESCRIPTORS_MAX: usize = 8;

/// Sends bytes, the descriptors with the first of them; how many bytes went.
pub(crate) fn send(
    to: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let few = &descriptors[..descriptors.len().min(DESCRIPTORS_MAX)];
    ancillary.push(SendAncillaryMessage::ScmRights(few));
    rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}

/// Receives bytes and the descriptors that come with them; how many bytes came.
pub(crate) fn receive(
    from: impl AsFd,
    bytes: &mut [u8],
) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(from, &mut into, &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(these) = message {
            descriptors.extend(these);
        }
    }
    Ok((received.bytes, descriptors))
}
