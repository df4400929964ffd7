//! Certificates that the client trusts, and every kind that it refuses, each with its reason.

use crate::support::certificates::certificate_kinds;
use crate::support::client::Client;
use crate::support::nginx::Nginx;
use crate::support::server::Server;

#[test]
fn every_bad_certificate_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let certificate_kinds = certificate_kinds(folder.path());
    let pairs: Vec<_> = certificate_kinds.iter().map(|(_, pair, _)| pair).collect();
    let nginx = Nginx::in_front_of(server.address(), &pairs);
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    for (number, (name, _, wrong)) in certificate_kinds.iter().enumerate() {
        let url = format!("wss://{}", nginx.address(number));
        let finished = Client::pipe(&[&url, "--ca-file", ca, "-u", name], b"hola\n");
        if wrong.is_empty() {
            assert_eq!(
                (finished.code, finished.texts()),
                (Some(0), vec!["hola".into()]),
                "{name}: {finished:?}"
            );
            continue;
        }
        assert_eq!(finished.code, Some(69), "{name}: {finished:?}");
        assert!(finished.lines.is_empty(), "{name}: {finished:?}");
        let lines: Vec<&str> = finished.errors.lines().collect();
        assert_eq!(lines.len(), 1, "{name}: one clear line, and no second try: {finished:?}");
        let start = format!("chat-client: wss://{} is not trusted: ", nginx.address(number));
        assert!(lines[0].starts_with(&start), "{name}: {finished:?}");
        assert!(lines[0].contains(wrong), "{name}: {finished:?}");
    }
    // Only clients that trusted the certificate reached the server.
    for (name, _, wrong) in &certificate_kinds {
        let sessions = server.log().iter().filter(|line| line["user"] == *name).count();
        assert_eq!(sessions == 0, !wrong.is_empty(), "{name}");
    }
}

#[test]
fn a_pin_trusts_one_certificate_and_insecure_trusts_all() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let mut certificate_kinds = certificate_kinds(folder.path());
    certificate_kinds
        .retain(|(name, _, _)| ["good", "self-signed", "expired", "short-key"].contains(name));
    let pairs: Vec<_> = certificate_kinds.iter().map(|(_, pair, _)| pair).collect();
    let nginx = Nginx::in_front_of(server.address(), &pairs);
    let at =
        |name: &str| certificate_kinds.iter().position(|(known, _, _)| *known == name).unwrap();
    let connect = |name: &str, words: &[&str]| {
        let url = format!("wss://{}", nginx.address(at(name)));
        let words: Vec<&str> = [&url[..]].iter().chain(words).copied().collect();
        Client::pipe(&words, b"hola\n")
    };

    // By default, only the system's authorities are trusted.
    assert_eq!(connect("good", &[]).code, Some(69));

    let fingerprint = certificate_kinds[at("self-signed")].1.fingerprint();
    let pinned = connect("self-signed", &["--pin", &fingerprint]);
    assert_eq!((pinned.code, &pinned.errors[..]), (Some(0), ""), "{pinned:?}");
    let lowercase = fingerprint.replace(':', "").to_lowercase();
    assert_eq!(connect("self-signed", &["--pin", &lowercase]).code, Some(0), "as others write it");
    // With a pin, nothing else is trusted, not even a certificate of a good authority.
    let ca = folder.path().join("ca.pem");
    let other = connect("good", &["--pin", &fingerprint, "--ca-file", ca.to_str().unwrap()]);
    assert_eq!(other.code, Some(69), "{other:?}");
    assert!(other.errors.contains("not the one of --pin"), "{other:?}");
    assert_eq!(connect("good", &["--pin", &fingerprint, "--insecure"]).code, Some(69));
    assert_eq!(connect("good", &["--pin", "12:34"]).code, Some(2), "no fingerprint");

    for name in ["self-signed", "expired"] {
        let insecure = connect(name, &["--insecure"]);
        assert_eq!((insecure.code, insecure.texts()), (Some(0), vec!["hola".into()]), "{name}");
        assert!(insecure.errors.contains("warning: --insecure"), "{insecure:?}");
        assert_eq!(insecure.errors.lines().count(), 1, "{insecure:?}");
    }
    // A server with a trusted certificate must still prove that it has the key.
    assert_eq!(connect("short-key", &["--insecure"]).code, Some(69));

    for (file, error) in [("missing.pem", "No such file"), ("good.key.pem", "no certificate")] {
        let path = folder.path().join(file);
        let ended = connect("good", &["--ca-file", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.contains(error) && ended.errors.contains(file), "{ended:?}");
    }
}
