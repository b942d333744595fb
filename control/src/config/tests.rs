use super::*;

const EXAMPLE: &str = include_str!("../../../docs/weir.example.toml");

const SMALLEST: &str = r#"
[matrix]
homeserver = "https://matrix.example.org"
user = "@focus:example.org"
password = "correct horse"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, std::iter::empty())
}

fn error(text: &str) -> String {
    parse(text).expect_err("a mistake").to_string()
}

fn with(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(SMALLEST, environment)
}

#[test]
fn example_says_the_defaults() {
    let example = parse(EXAMPLE).expect("the example");
    let smallest = parse(SMALLEST).expect("the smallest configuration");
    assert_eq!(
        format!("{:?}", example.media),
        format!("{:?}", smallest.media)
    );
    assert_eq!(
        format!("{:?}", example.audio),
        format!("{:?}", smallest.audio)
    );
    assert_eq!(
        format!("{:?}", example.authorisation),
        format!("{:?}", smallest.authorisation)
    );
    assert_eq!(
        format!("{:?}", example.http),
        format!("{:?}", smallest.http)
    );
    assert_eq!(
        format!("{:?}", example.blip),
        format!("{:?}", smallest.blip)
    );
    assert_eq!(
        format!("{:?}", example.limits),
        format!("{:?}", smallest.limits)
    );
    assert_eq!(example.matrix.store, smallest.matrix.store);
    assert_eq!(example.matrix.rooms_max, smallest.matrix.rooms_max);
}

#[test]
fn example_names_every_key() {
    // The optional keys stand there as comments; uncommented, the file must still be readable.
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .collect();
    let config = Config::parse(&uncommented.join("\n"), std::iter::empty());
    let mistakes = config
        .expect_err("password and application service together")
        .to_string();
    assert_eq!(
        mistakes,
        "matrix.password: must not be given with [appservice], nor matrix.access_token: the application service's token \
         is the login"
    );
}

#[test]
fn unknown_key_is_named_with_its_line() {
    let text = format!("{SMALLEST}\n[media]\nlisten_on = []\n");
    let error = error(&text);
    assert!(
        error.contains("listen_on") && error.contains("line 8"),
        "{error}"
    );
}

#[test]
fn environment_overrides_the_file() {
    let config = with(&[
        ("WEIR_MATRIX_USER", "other"),
        ("WEIR_MEDIA_LISTEN", r#"["127.0.0.1:9000"]"#),
        ("WEIR_HTTP_PAGE", "true"),
        ("WEIR_AUDIO_LOUDEST", "3"),
        ("WEIR_LOG", "debug"),
    ])
    .expect("valid");
    assert_eq!(config.matrix.user, "other");
    assert_eq!(
        config.media.listen,
        ["127.0.0.1:9000".parse().expect("an address")]
    );
    assert!(config.http.page);
    assert_eq!((config.audio.loudest, config.audio.all_up_to), (3, 20));
}

#[test]
fn mistakes_name_key_value_and_what_would_be_right() {
    let text =
        format!("{SMALLEST}\n[authorisation]\npolicy = \"open\"\n[limits]\nconferences_max = 0\n");
    assert_eq!(
        error(&text),
        "authorisation.policy = \"open\": lets everybody use this focus; if that is what you want, set \
         authorisation.i_know = true\nlimits.conferences_max = 0: must be at least 1"
    );
}

#[test]
fn who_is_connected_where_is_told_on_loopback_alone_and_only_if_asked() {
    assert!(!parse(SMALLEST).expect("valid").http.conferences);
    let http = |listen: &str| {
        parse(&format!(
            "{SMALLEST}\n[http]\nlisten = \"{listen}\"\nconferences = true\n"
        ))
    };
    for listen in ["127.0.0.1:7880", "[::1]:7880"] {
        assert!(http(listen).expect("valid").http.conferences);
    }
    for listen in ["0.0.0.0:7880", "10.0.0.1:7880", "[::]:7880"] {
        let error = http(listen).expect_err("a mistake").to_string();
        assert!(error.starts_with("http.conferences = true"), "{error}");
        assert!(error.contains("loopback"), "{error}");
    }
}

#[test]
fn the_blip_port_is_off_and_bounded() {
    let config = parse(SMALLEST).expect("the smallest configuration");
    assert_eq!(config.blip.listen, None);
    let config = with(&[("WEIR_BLIP_LISTEN", "[::]:7881")]).expect("valid");
    assert_eq!(config.blip.listen, "[::]:7881".parse().ok());
    for rate in ["0.0", "-1.0", "nan", "1e9"] {
        let error = error(&format!(
            "{SMALLEST}\n[blip]\nconnections_per_second = {rate}\n"
        ));
        assert!(error.starts_with("blip.connections_per_second"), "{error}");
        assert!(error.contains("from 1 to"), "{error}");
    }
}

#[test]
fn slots_last_at_least_a_second_and_may_be_none() {
    let limits = |text: &str| format!("{SMALLEST}\n[limits]\n{text}\n");
    assert!(error(&limits("slot_seconds = 0")).starts_with("limits.slot_seconds = 0"));
    let config = parse(&limits("slots_max = 0\nslots_per_user_max = 0")).expect("valid");
    assert_eq!(config.limits.slots_max, 0);
}

#[test]
fn media_addresses_must_fit_together() {
    let error = |media: &str| error(&format!("{SMALLEST}\n[media]\nshards = 2\n{media}\n"));
    assert!(error("listen = []").starts_with("media.listen = []"));
    assert!(error("listen = [\"10.0.0.1:1\", \"10.0.0.2:1\"]").contains("one of each"));
    assert!(error("listen = [\"10.0.0.1:65535\"]").contains("ports of 2 shards"));
    assert!(error("advertise = [\"::1\"]").contains("of a family in media.listen"));
    assert!(error("cores = [1, 1]").contains("a different core for each of the 2 shards"));
}

#[test]
fn ports_to_call_from_are_bounded_and_may_be_none() {
    let media = |text: &str| format!("{SMALLEST}\n[media]\n{text}\n");
    let error = error(&media("calling_ports = 256"));
    assert!(error.starts_with("media.calling_ports = 256: must be at most 255"));
    for valid in [0, 255] {
        let config = parse(&media(&format!("calling_ports = {valid}"))).expect("valid");
        assert_eq!(config.media.calling_ports, valid);
    }
}

#[test]
fn secrets_are_not_printed() {
    let config = parse(SMALLEST).expect("valid");
    assert!(!format!("{config:?}").contains("correct horse"));
}

#[test]
fn an_account_has_one_way_to_log_in() {
    let both = format!("{SMALLEST}access_token = \"syt\"\n");
    let neither = SMALLEST.replace("password = \"correct horse\"", "");
    for text in [both, neither] {
        assert_eq!(
            error(&text),
            "matrix.password: give either matrix.password or matrix.access_token"
        );
    }
}

#[test]
fn application_service_has_defaults_and_no_password() {
    let account = SMALLEST.replace("password = \"correct horse\"", "");
    let config = parse(&format!("{account}[appservice]\n")).expect("valid");
    let appservice = config.appservice.expect("the section");
    assert_eq!(appservice.listen, "127.0.0.1:7881".parse().unwrap());
    assert_eq!(appservice.url(), "http://127.0.0.1:7881");
    assert_eq!(appservice.id, "weir");

    let environment = [("WEIR_APPSERVICE_LISTEN", "[::1]:80")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&account, environment.into_iter()).expect("valid");
    let url = config.appservice.map(|appservice| appservice.url());
    assert_eq!(url.as_deref(), Some("http://[::1]:80"));
}

#[test]
fn mistakes_of_an_application_service_are_named_without_its_secrets() {
    let account = SMALLEST.replace("password = \"correct horse\"", "");
    let error = |more: &str| {
        let error = error(&format!("{account}[appservice]\n{more}\n"));
        assert!(!error.contains("secret"), "{error}");
        error
    };
    let a = "as_token = \"secret-secret-secret\"";
    let h = "hs_token = \"secret-secret-secret\"";
    assert!(error(a).starts_with("appservice.as_token: give appservice.as_token and"));
    assert!(error(&format!("{a}\n{h}")).contains("another than appservice.hs_token"));
    assert!(error(&format!("{a}\nhs_token = \"secret\"")).contains("at least 16"));
    assert!(error(&format!("{a}\nhs_token = \"secret with blanks in it\"")).contains("no blanks"));
    assert!(error("url = \"localhost\"").starts_with("appservice.url = \"localhost\""));
    assert!(error("listen = \"0.0.0.0:7881\"").contains("needs an appservice.url"));
    assert!(error("id = \"a|b\"").starts_with("appservice.id = \"a|b\""));
    let text = account.replace("@focus:example.org", "focus");
    let error = self::error(&format!("{text}[appservice]\n"));
    assert!(error.contains("full user id"), "{error}");
}
