//! The foci of the demo: one in this process, or several that are children of it, so that each can be ended by itself.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use weir::config::{Config, Http, Matrix, Media, Secret};
use weir::focus::Focus;
use weir_client::FocusAddress;

use super::{PASSWORD, StageConfig, Store};
use crate::child::Place;
use crate::child::focus::{self, ChildConfig, FocusChild};
use crate::scenario::{Scenario, Settings};

/// A running focus.
#[derive(Debug)]
pub(super) enum StageFocus {
    /// In this process; the folder is removed after it.
    Here { focus: Box<Focus>, _store: Store },
    /// A process of its own.
    Child {
        focus: Box<FocusChild>,
        address: FocusAddress,
    },
}

impl StageFocus {
    /// Starts the only focus.
    pub(super) async fn start_here(
        config: &StageConfig,
        homeserver: &str,
        user: &str,
    ) -> anyhow::Result<StageFocus> {
        let store = Store::new();
        let mut of_focus = focus_config(config, homeserver, &store);
        user.clone_into(&mut of_focus.matrix.user);
        let focus = Focus::start(of_focus).await.context("the focus")?;
        Ok(StageFocus::Here {
            focus: Box::new(focus),
            _store: store,
        })
    }

    /// Starts one of several.
    pub(super) async fn start_child(
        config: &StageConfig,
        homeserver: &str,
        user: &str,
    ) -> anyhow::Result<StageFocus> {
        let settings = Settings {
            participants: config.participants + config.guests,
            ..Scenario::Conference.defaults()
        };
        let child = ChildConfig {
            program: config.program.clone(),
            homeserver: homeserver.to_owned(),
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            shards: Some(config.shards),
            media_port: 0,
            http_port: 0,
            address: Ipv4Addr::LOCALHOST.into(),
            place: Place::default(),
            beside_others: true,
        };
        let focus = FocusChild::start(&child, &settings.plan()).await;
        Ok(StageFocus::Child {
            focus: Box::new(focus.with_context(|| user.to_owned())?),
            address: focus::address_of(user),
        })
    }

    /// How it is called.
    pub(super) fn address(&self) -> FocusAddress {
        match self {
            StageFocus::Here { focus, .. } => address_of(focus),
            StageFocus::Child { address, .. } => address.clone(),
        }
    }

    /// Where it says who is connected to it.
    pub(super) fn http(&self) -> SocketAddr {
        match self {
            StageFocus::Here { focus, .. } => focus.http_address(),
            StageFocus::Child { focus, .. } => focus.http(),
        }
    }

    /// Its process, if that is not this one and has not ended.
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            StageFocus::Here { .. } => None,
            StageFocus::Child { focus, .. } => focus.id(),
        }
    }

    pub(super) async fn stop(self) {
        match self {
            StageFocus::Here { focus, .. } => focus.shutdown().await,
            StageFocus::Child { focus, .. } => focus.stop().await,
        }
    }
}

/// How a focus of this process is called.
pub(crate) fn address_of(focus: &Focus) -> FocusAddress {
    let id = focus.id();
    FocusAddress {
        user_id: id.user_id.clone(),
        device_id: id.device_id.clone(),
    }
}

/// A focus of this process on the loopback interface.
pub(crate) fn focus_config(config: &StageConfig, homeserver: &str, store: &Store) -> Config {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let matrix = Matrix {
        homeserver: homeserver.to_owned(),
        user: "focus".into(),
        password: Some(Secret::new(PASSWORD)),
        access_token: None,
        device_id: None,
        store: store.0.clone(),
        store_passphrase: None,
        display_name: "Weir demo".into(),
        rooms_max: 16,
    };
    Config {
        media: Media {
            listen: vec![loopback],
            shards: Some(config.shards),
            ..Media::default()
        },
        http: Http {
            listen: loopback,
            page: false,
            conferences: true,
        },
        ..Config::new(matrix)
    }
}
