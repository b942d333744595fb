//! STUN as ICE needs it: binding requests and their answers (RFC 8489, RFC 8445 §7).
//!
//! [`Message::parse`] looks at lengths and structure only; nothing in a message is to be believed before
//! [`Message::check_integrity`] said yes. Attributes behind MESSAGE-INTEGRITY are not covered by it and are not seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};

use crate::cursor::{NoRoom, Reader, Writer};

/// Bytes before the attributes.
pub const HEADER_BYTES: usize = 20;
/// A length that every message written here fits in.
pub const MESSAGE_BYTES_MAX: usize = 768;

const MAGIC_COOKIE: u32 = 0x2112_a442;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const INTEGRITY_BYTES: usize = 20;
const BINDING: u16 = 0x0001;

/// Attribute types (RFC 8489 §18.3, RFC 8445 §16.1).
mod attribute {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    pub(super) const ICE_CONTROLLING: u16 = 0x802a;
    /// Types from here on may be ignored by a receiver that does not know them.
    pub(super) const FIRST_OPTIONAL: u16 = 0x8000;
}

/// Which check of a message failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// Shorter than a header.
    #[error("shorter than a STUN header")]
    TooShort,
    /// The first two bits are not zero, or the magic cookie is wrong.
    #[error("not a STUN message")]
    NotStun,
    /// The length field is not that of the datagram, or not a multiple of four.
    #[error("STUN length field is wrong")]
    BadLength,
    /// An attribute goes past the end.
    #[error("STUN attribute goes past the end")]
    AttributeTooLong,
    /// MESSAGE-INTEGRITY or FINGERPRINT has a wrong length, or something follows FINGERPRINT.
    #[error("STUN integrity or fingerprint attribute is malformed")]
    BadTrailer,
}

/// Why a message is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IntegrityError {
    /// There is no MESSAGE-INTEGRITY.
    #[error("STUN message has no integrity attribute")]
    Missing,
    /// It was made with another password, or for another message.
    #[error("STUN message integrity is wrong")]
    Wrong,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// The answer to a request that was carried out.
    Success,
    /// The answer to a request that was not.
    Error,
}

/// The transaction id: what ties an answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// A short-term password, prepared for many messages.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// Prepares an ICE password.
    pub fn new(password: &str) -> Self {
        Self(hmac::Key::new(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            password.as_bytes(),
        ))
    }

    /// The code over the message up to `covered` bytes, as if it ended with MESSAGE-INTEGRITY.
    fn integrity(&self, covered: &[u8]) -> Option<hmac::Tag> {
        let (header, attributes) = covered.split_at_checked(HEADER_BYTES)?;
        let mut context = hmac::Context::with_key(&self.0);
        let length = u16::try_from(attributes.len() + 4 + INTEGRITY_BYTES).ok()?;
        context.update(&header[..2]);
        context.update(&length.to_be_bytes());
        context.update(&header[4..]);
        context.update(attributes);
        Some(context.sign())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stun::Key(..)")
    }
}

/// A STUN message whose structure has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Where the attributes end that integrity covers (all, when there is no MESSAGE-INTEGRITY and no FINGERPRINT).
    covered_len: usize,
    integrity: Option<&'a [u8]>,
    /// Where FINGERPRINT begins, and its value.
    fingerprint: Option<(usize, u32)>,
}

impl<'a> Message<'a> {
    /// Reads a datagram that is one STUN message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16().ok_or(Error::TooShort)?;
        let length = usize::from(reader.u16().ok_or(Error::TooShort)?);
        let cookie = reader.u32().ok_or(Error::TooShort)?;
        reader.take(12).ok_or(Error::TooShort)?;
        if kind & 0xc000 != 0 || cookie != MAGIC_COOKIE {
            return Err(Error::NotStun);
        }
        if length != reader.rest().len() || length % 4 != 0 {
            return Err(Error::BadLength);
        }
        let mut message = Self {
            bytes,
            covered_len: bytes.len(),
            integrity: None,
            fingerprint: None,
        };
        while !reader.is_empty() {
            let start = bytes.len() - reader.rest().len();
            let (kind, value) = next_attribute(&mut reader).ok_or(Error::AttributeTooLong)?;
            message.note_trailer(start, kind, value)?;
            if message.fingerprint.is_some() && !reader.is_empty() {
                return Err(Error::BadTrailer);
            }
        }
        Ok(message)
    }

    /// Remembers the attributes that end a message.
    fn note_trailer(&mut self, start: usize, kind: u16, value: &'a [u8]) -> Result<(), Error> {
        match kind {
            attribute::MESSAGE_INTEGRITY if self.integrity.is_none() => {
                if value.len() != INTEGRITY_BYTES {
                    return Err(Error::BadTrailer);
                }
                self.integrity = Some(value);
                self.covered_len = start;
            }
            attribute::FINGERPRINT => {
                let value: [u8; 4] = value.try_into().map_err(|_| Error::BadTrailer)?;
                self.fingerprint = Some((start, u32::from_be_bytes(value)));
                self.covered_len = self.covered_len.min(start);
            }
            _ => {}
        }
        Ok(())
    }

    /// What the message is for.
    pub fn class(&self) -> Class {
        match (self.bytes[0] & 0x01, self.bytes[1] & 0x10) {
            (0, 0) => Class::Request,
            (0, _) => Class::Indication,
            (_, 0) => Class::Success,
            _ => Class::Error,
        }
    }

    /// Whether the method is Binding, the only one that ICE uses.
    pub fn is_binding(&self) -> bool {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]]) & !0x0110 == BINDING
    }

    /// The transaction id.
    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_BYTES]);
        TransactionId(id)
    }

    /// Whether MESSAGE-INTEGRITY was made with this password, compared in constant time.
    pub fn check_integrity(&self, key: &Key) -> Result<(), IntegrityError> {
        let claimed = self.integrity.ok_or(IntegrityError::Missing)?;
        let tag = key
            .integrity(&self.bytes[..self.covered_len])
            .ok_or(IntegrityError::Wrong)?;
        constant_time::verify_slices_are_equal(tag.as_ref(), claimed)
            .map_err(|_| IntegrityError::Wrong)
    }

    /// Whether FINGERPRINT is right; `None` when there is none.
    pub fn check_fingerprint(&self) -> Option<bool> {
        let (start, claimed) = self.fingerprint?;
        Some(crc32fast::hash(&self.bytes[..start]) ^ FINGERPRINT_XOR == claimed)
    }

    /// USERNAME as it is on the wire.
    pub fn username(&self) -> Option<&'a [u8]> {
        self.find(attribute::USERNAME)
    }

    /// USERNAME split at the first colon: (receiver's ufrag, sender's ufrag) in a request (RFC 8445 §7.2.2).
    pub fn ufrags(&self) -> Option<(&'a str, &'a str)> {
        std::str::from_utf8(self.username()?).ok()?.split_once(':')
    }

    /// PRIORITY.
    pub fn priority(&self) -> Option<u32> {
        self.find(attribute::PRIORITY)
            .and_then(|value| value.try_into().ok())
            .map(u32::from_be_bytes)
    }

    /// Whether USE-CANDIDATE is there: the controlling agent nominates this pair.
    pub fn use_candidate(&self) -> bool {
        self.find(attribute::USE_CANDIDATE).is_some()
    }

    /// The role that the sender claims; the first one, if it claims both.
    pub fn role(&self) -> Option<Role> {
        self.attributes().find_map(|(kind, value)| {
            let tie_breaker = u64::from_be_bytes(value.try_into().ok()?);
            match kind {
                attribute::ICE_CONTROLLING => Some(Role::Controlling { tie_breaker }),
                attribute::ICE_CONTROLLED => Some(Role::Controlled { tie_breaker }),
                _ => None,
            }
        })
    }

    /// XOR-MAPPED-ADDRESS: where the answering side saw the request come from.
    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        let mut reader = Reader::new(self.find(attribute::XOR_MAPPED_ADDRESS)?);
        let family = reader.u16()? & 0xff;
        let port = reader.u16()? ^ (MAGIC_COOKIE >> 16) as u16;
        let ip = match (family, reader.rest()) {
            (1, &[a, b, c, d]) => IpAddr::V4(Ipv4Addr::from_bits(
                u32::from_be_bytes([a, b, c, d]) ^ MAGIC_COOKIE,
            )),
            (2, rest) => {
                let address: [u8; 16] = rest.try_into().ok()?;
                IpAddr::V6(Ipv6Addr::from_bits(
                    u128::from_be_bytes(address) ^ self.transaction_id().mask(),
                ))
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// The number of ERROR-CODE, 300 to 699.
    pub fn error_code(&self) -> Option<u16> {
        match self.find(attribute::ERROR_CODE)? {
            &[_, _, class, number, ..] if (3..=6).contains(&(class & 7)) && number < 100 => {
                Some(u16::from(class & 7) * 100 + u16::from(number))
            }
            _ => None,
        }
    }

    /// The first attribute that must be understood and is not known here; a request with one is answered with
    /// [`ErrorCode::UnknownAttribute`].
    pub fn unknown_required(&self) -> Option<u16> {
        use attribute::*;
        let known = [
            MAPPED_ADDRESS,
            USERNAME,
            MESSAGE_INTEGRITY,
            ERROR_CODE,
            UNKNOWN_ATTRIBUTES,
            XOR_MAPPED_ADDRESS,
            PRIORITY,
            USE_CANDIDATE,
        ];
        self.attributes()
            .map(|(kind, _)| kind)
            .find(|kind| *kind < FIRST_OPTIONAL && !known.contains(kind))
    }

    /// The attributes that integrity covers: type and value.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(&self.bytes[HEADER_BYTES..self.covered_len]);
        std::iter::from_fn(move || next_attribute(&mut reader))
    }

    fn find(&self, wanted: u16) -> Option<&'a [u8]> {
        self.attributes()
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    }
}

/// Takes type, length, value and padding. Padding may be anything (RFC 8489 §14).
fn next_attribute<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let kind = reader.u16()?;
    let len = usize::from(reader.u16()?);
    let value = reader.take(len)?;
    reader.take(len.next_multiple_of(4) - len)?;
    Some((kind, value))
}

impl TransactionId {
    /// The id with this number among those that belong to `secret`. Whoever does not know the secret can neither tell the next one
    /// from those before, as RFC 8489 §5 wants it, nor learn the secret from them.
    pub fn derived(secret: &Key, number: u64) -> Self {
        let tag = hmac::sign(&secret.0, &number.to_be_bytes());
        let mut id = [0; 12];
        id.copy_from_slice(&tag.as_ref()[..12]);
        Self(id)
    }

    /// What an IPv6 address is masked with: cookie and transaction id.
    fn mask(self) -> u128 {
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        mask[4..].copy_from_slice(&self.0);
        u128::from_be_bytes(mask)
    }
}

/// Who decides which pair is used (RFC 8445 §6.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The sender decides. A lite agent's peer always does.
    Controlling {
        /// Breaks a tie when both claim a role.
        tie_breaker: u64,
    },
    /// The sender follows.
    Controlled {
        /// Breaks a tie when both claim a role.
        tie_breaker: u64,
    },
}

/// The errors that a binding request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 400: a required attribute is missing.
    BadRequest,
    /// 401: the ufrag is unknown or the integrity wrong.
    Unauthenticated,
    /// 420: this attribute must be understood and is not.
    UnknownAttribute(u16),
    /// 487: both sides claim the same role (RFC 8445 §7.3.1.1).
    RoleConflict,
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::UnknownAttribute(_) => 420,
            Self::RoleConflict => 487,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthenticated => "Unauthenticated",
            Self::UnknownAttribute(_) => "Unknown Attribute",
            Self::RoleConflict => "Role Conflict",
        }
    }
}

/// A connectivity check to send (RFC 8445 §7.2.2).
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    /// Must be new and unpredictable.
    pub transaction_id: TransactionId,
    /// The receiver's ufrag, a colon, the sender's ufrag; at most 513 bytes.
    pub username: &'a str,
    /// The priority that a peer-reflexive candidate of this pair would have.
    pub priority: u32,
    /// The role that the sender takes.
    pub role: Role,
    /// Whether this pair is nominated.
    pub use_candidate: bool,
}

impl BindingRequest<'_> {
    /// Writes the request with integrity (`key` is the receiver's password) and fingerprint, and says how many bytes it has.
    pub fn emit(&self, key: &Key, out: &mut [u8]) -> Result<usize, NoRoom> {
        let mut writer = start(BINDING, self.transaction_id, out)?;
        put_attribute(&mut writer, attribute::USERNAME, self.username.as_bytes())?;
        put_attribute(
            &mut writer,
            attribute::PRIORITY,
            &self.priority.to_be_bytes(),
        )?;
        let (kind, tie_breaker) = match self.role {
            Role::Controlling { tie_breaker } => (attribute::ICE_CONTROLLING, tie_breaker),
            Role::Controlled { tie_breaker } => (attribute::ICE_CONTROLLED, tie_breaker),
        };
        put_attribute(&mut writer, kind, &tie_breaker.to_be_bytes())?;
        if self.use_candidate {
            put_attribute(&mut writer, attribute::USE_CANDIDATE, &[])?;
        }
        finish(writer, Some(key))
    }
}

/// Writes the answer to a check: the address that it came from, integrity (`key` is our own password) and fingerprint.
pub fn emit_success(
    id: TransactionId,
    mapped: SocketAddr,
    key: &Key,
    out: &mut [u8],
) -> Result<usize, NoRoom> {
    let mut writer = start(BINDING | 0x0100, id, out)?;
    let port = mapped.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let mut value = [0; 20];
    value[2..4].copy_from_slice(&port.to_be_bytes());
    // An IPv4 peer of a dual-stack socket shows as a mapped IPv6 address; it knows itself by the IPv4 one.
    let len = match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            value[4..].copy_from_slice(&(ip.to_bits() ^ id.mask()).to_be_bytes());
            20
        }
    };
    put_attribute(&mut writer, attribute::XOR_MAPPED_ADDRESS, &value[..len])?;
    finish(writer, Some(key))
}

/// Writes an error answer with fingerprint; with integrity when the request's key is known (400 and 401 go without).
pub fn emit_error(
    id: TransactionId,
    code: ErrorCode,
    key: Option<&Key>,
    out: &mut [u8],
) -> Result<usize, NoRoom> {
    let mut writer = start(BINDING | 0x0110, id, out)?;
    let (number, reason) = (code.number(), code.reason());
    writer.u16(attribute::ERROR_CODE)?;
    writer.u16(4 + reason.len() as u16)?;
    writer.put(&[0, 0, (number / 100) as u8, (number % 100) as u8])?;
    writer.put(reason.as_bytes())?;
    writer.zeros(reason.len().next_multiple_of(4) - reason.len())?;
    if let ErrorCode::UnknownAttribute(kind) = code {
        put_attribute(
            &mut writer,
            attribute::UNKNOWN_ATTRIBUTES,
            &kind.to_be_bytes(),
        )?;
    }
    finish(writer, key)
}

fn start(kind: u16, id: TransactionId, out: &mut [u8]) -> Result<Writer<'_>, NoRoom> {
    let mut writer = Writer::new(out);
    writer.u16(kind)?;
    writer.u16(0)?;
    writer.u32(MAGIC_COOKIE)?;
    writer.put(&id.0)?;
    Ok(writer)
}

fn put_attribute(writer: &mut Writer<'_>, kind: u16, value: &[u8]) -> Result<(), NoRoom> {
    writer.u16(kind)?;
    writer.u16(u16::try_from(value.len()).map_err(|_| NoRoom)?)?;
    writer.put(value)?;
    writer.zeros(value.len().next_multiple_of(4) - value.len())
}

/// Appends integrity and fingerprint, each computed over a length field that already counts it.
fn finish(mut writer: Writer<'_>, key: Option<&Key>) -> Result<usize, NoRoom> {
    if let Some(key) = key {
        let tag = key.integrity(writer.written()).ok_or(NoRoom)?;
        put_attribute(&mut writer, attribute::MESSAGE_INTEGRITY, tag.as_ref())?;
    }
    let length = u16::try_from(writer.len() - HEADER_BYTES + 8).map_err(|_| NoRoom)?;
    writer.patch(2, &length.to_be_bytes());
    let crc = crc32fast::hash(writer.written()) ^ FINGERPRINT_XOR;
    put_attribute(&mut writer, attribute::FINGERPRINT, &crc.to_be_bytes())?;
    Ok(writer.len())
}
