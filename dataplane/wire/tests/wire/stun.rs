use std::net::SocketAddr;

use weir_wire::NoRoom;
use weir_wire::stun::{
    BindingRequest, Class, Error, ErrorCode, IntegrityError, Key, MESSAGE_BYTES_MAX, Message, Role,
    TransactionId, emit_error, emit_success,
};

use crate::hex;

/// RFC 5769 §2: the password of all short-term vectors.
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 §2.1.
const REQUEST: &str = "
    0001 0058 2112a442 b7e7a701 bc34d686 fa87dfae
    8022 0010 5354554e 20746573 7420636c 69656e74
    0024 0004 6e0001ff
    8029 0008 932ff9b1 51263b36
    0006 0009 6576746a 3a683676 59202020
    0008 0014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    8028 0004 e57a3bcf";

/// RFC 5769 §2.2.
const RESPONSE_V4: &str = "
    0101 003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022 000b 74657374 20766563 746f7220
    0020 0008 0001a147 e112a643
    0008 0014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    8028 0004 c07d4c96";

/// RFC 5769 §2.3.
const RESPONSE_V6: &str = "
    0101 0048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022 000b 74657374 20766563 746f7220
    0020 0014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    0008 0014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    8028 0004 c8fb0b4c";

const ID: TransactionId = TransactionId([7; 12]);

fn mapped(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn reads_the_request_of_rfc_5769() {
    let bytes = hex(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(
        (message.class(), message.is_binding()),
        (Class::Request, true)
    );
    assert_eq!(
        message.transaction_id().0,
        hex("b7e7a701 bc34d686 fa87dfae")[..]
    );
    assert_eq!(message.username(), Some(&b"evtj:h6vY"[..]));
    assert_eq!(message.ufrags(), Some(("evtj", "h6vY")));
    assert_eq!(message.priority(), Some(0x6e00_01ff));
    assert_eq!(
        message.role(),
        Some(Role::Controlled {
            tie_breaker: 0x932f_f9b1_5126_3b36
        })
    );
    assert!(!message.use_candidate());
    assert_eq!(message.unknown_required(), None);
    assert_eq!(message.check_integrity(&Key::new(PASSWORD)), Ok(()));
    assert_eq!(message.check_fingerprint(), Some(true));
}

#[test]
fn reads_the_responses_of_rfc_5769() {
    for (text, address) in [
        (RESPONSE_V4, "192.0.2.1:32853"),
        (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let bytes = hex(text);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.class(), message.is_binding()),
            (Class::Success, true)
        );
        assert_eq!(message.xor_mapped_address(), Some(mapped(address)));
        assert_eq!(message.check_integrity(&Key::new(PASSWORD)), Ok(()));
        assert_eq!(message.check_fingerprint(), Some(true));
    }
}

#[test]
fn a_wrong_password_or_a_changed_byte_fails_integrity() {
    let mut bytes = hex(REQUEST);
    assert_eq!(
        Message::parse(&bytes)
            .unwrap()
            .check_integrity(&Key::new("other")),
        Err(IntegrityError::Wrong)
    );
    let integrity_at = bytes.len() - 8 - 24;
    // Not the type and length fields: changing those makes another message.
    for at in (8..20)
        .chain(24..40)
        .chain(44..48)
        .chain(integrity_at + 4..integrity_at + 24)
    {
        bytes[at] ^= 0x40;
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.check_integrity(&Key::new(PASSWORD)),
            Err(IntegrityError::Wrong),
            "byte {at}"
        );
        assert_eq!(message.check_fingerprint(), Some(false), "byte {at}");
        bytes[at] ^= 0x40;
    }
}

#[test]
fn without_integrity_nothing_is_checked_as_good() {
    let mut out = [0; MESSAGE_BYTES_MAX];
    let len = emit_error(ID, ErrorCode::Unauthenticated, None, &mut out).unwrap();
    let message = Message::parse(&out[..len]).unwrap();
    assert_eq!(
        message.check_integrity(&Key::new("")),
        Err(IntegrityError::Missing)
    );
}

#[test]
fn attributes_behind_integrity_are_not_seen() {
    let mut out = [0; MESSAGE_BYTES_MAX];
    let request = BindingRequest {
        transaction_id: ID,
        username: "a:b",
        priority: 1,
        role: Role::Controlling { tie_breaker: 2 },
        use_candidate: false,
    };
    let key = Key::new("password");
    let len = request.emit(&key, &mut out).unwrap() - 8;
    // Where the fingerprint was: USE-CANDIDATE, by someone without the password.
    out[len..len + 4].copy_from_slice(&hex("0025 0000"));
    out[2..4].copy_from_slice(&((len + 4 - 20) as u16).to_be_bytes());
    let message = Message::parse(&out[..len + 4]).unwrap();
    assert_eq!(message.check_integrity(&key), Ok(()));
    assert!(!message.use_candidate());
    assert_eq!(message.check_fingerprint(), None);
}

#[test]
fn writes_a_request_that_reads_back() {
    let key = Key::new(PASSWORD);
    let mut out = [0; MESSAGE_BYTES_MAX];
    for (role, use_candidate) in [
        (
            Role::Controlling {
                tie_breaker: u64::MAX,
            },
            true,
        ),
        (Role::Controlled { tie_breaker: 5 }, false),
    ] {
        let request = BindingRequest {
            transaction_id: ID,
            username: "focus:client",
            priority: 77,
            role,
            use_candidate,
        };
        let len = request.emit(&key, &mut out).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!(
            (message.class(), message.transaction_id()),
            (Class::Request, ID)
        );
        assert_eq!(message.ufrags(), Some(("focus", "client")));
        assert_eq!((message.priority(), message.role()), (Some(77), Some(role)));
        assert_eq!(message.use_candidate(), use_candidate);
        assert_eq!(message.check_integrity(&key), Ok(()));
        assert_eq!(message.check_fingerprint(), Some(true));
    }
}

#[test]
fn answers_with_the_address_that_the_request_came_from() {
    let key = Key::new(PASSWORD);
    let mut out = [0; MESSAGE_BYTES_MAX];
    for (seen, told) in [
        ("192.0.2.1:32853", "192.0.2.1:32853"),
        ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
    ] {
        let len = emit_success(ID, mapped(seen), &key, &mut out).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!(
            (message.class(), message.transaction_id()),
            (Class::Success, ID)
        );
        assert_eq!(message.xor_mapped_address(), Some(mapped(told)));
        assert_eq!(message.check_integrity(&key), Ok(()));
        assert_eq!(message.check_fingerprint(), Some(true));
    }
}

#[test]
fn answers_errors_with_their_number() {
    let key = Key::new(PASSWORD);
    let mut out = [0; MESSAGE_BYTES_MAX];
    for (code, number) in [
        (ErrorCode::BadRequest, 400),
        (ErrorCode::Unauthenticated, 401),
        (ErrorCode::UnknownAttribute(0x7777), 420),
        (ErrorCode::RoleConflict, 487),
    ] {
        let len = emit_error(ID, code, Some(&key), &mut out).unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        assert_eq!(
            (message.class(), message.error_code()),
            (Class::Error, Some(number))
        );
        assert_eq!(message.check_integrity(&key), Ok(()));
        assert_eq!(message.check_fingerprint(), Some(true));
    }
}

#[test]
fn finds_an_attribute_that_must_be_understood() {
    let bytes = hex("0001 0008 2112a442 000000000000000000000000 7777 0002 aabb0000");
    assert_eq!(
        Message::parse(&bytes).unwrap().unknown_required(),
        Some(0x7777)
    );
}

#[test]
fn says_which_check_failed() {
    let head = "2112a442 000000000000000000000000";
    for (bytes, error) in [
        (String::new(), Error::TooShort),
        (
            "0001 0000 2112a442 0000000000000000000000".to_owned(),
            Error::TooShort,
        ),
        (format!("4001 0000 {head}"), Error::NotStun),
        (
            "0001 0000 2112a443 000000000000000000000000".to_owned(),
            Error::NotStun,
        ),
        (format!("0001 0004 {head}"), Error::BadLength),
        (format!("0001 0000 {head} 00000000"), Error::BadLength),
        (format!("0001 0002 {head} 0000"), Error::BadLength),
        (
            format!("0001 0004 {head} 0006 0001"),
            Error::AttributeTooLong,
        ),
        (
            format!("0001 0008 {head} 0006 0005 61626364"),
            Error::AttributeTooLong,
        ),
        (
            format!("0001 0008 {head} 0008 0004 00000000"),
            Error::BadTrailer,
        ),
        (format!("0001 0004 {head} 8028 0000"), Error::BadTrailer),
        (
            format!("0001 000c {head} 8028 0004 00000000 0025 0000"),
            Error::BadTrailer,
        ),
    ] {
        assert_eq!(Message::parse(&hex(&bytes)).err(), Some(error), "{bytes}");
    }
}

#[test]
fn says_when_there_is_no_room() {
    let key = Key::new(PASSWORD);
    let mut out = [0; MESSAGE_BYTES_MAX];
    let len = emit_success(ID, mapped("192.0.2.1:1"), &key, &mut out).unwrap();
    for short in 0..len {
        assert_eq!(
            emit_success(ID, mapped("192.0.2.1:1"), &key, &mut out[..short]),
            Err(NoRoom)
        );
    }
}
