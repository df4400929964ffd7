//! Web pages of other origins, and names that lead to this machine: none can read or send anything.

use crate::http::{Answer, FAST, curl, parse, raw};
use crate::support::Mode;
use crate::support::server::Server;

const LISTED: &str = "https://page.example";

fn server() -> Server {
    Server::with(&format!(
        "[listen]\norigins = [{LISTED:?}, \"https://listed.example:443\"]\n{FAST}"
    ))
    .start()
}

fn ask(server: &Server, method: &str, lines: &[String]) -> Answer {
    let (body, kind) = match method {
        "POST" => ("Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nhola", ""),
        _ => ("\r\n", ""),
    };
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    parse(&raw(server, format!("{method} /rooms/lobby HTTP/1.1\r\n{lines}{kind}{body}").as_bytes()))
}

#[test]
fn p23_over_http_only_pages_of_the_own_and_of_listed_origins_are_answered() {
    let server = server();
    let own_host = format!("localhost:{}", server.address().rsplit(':').next().unwrap());
    let through_proxy =
        ["X-Forwarded-For: 203.0.113.7".to_owned(), "X-Forwarded-Proto: https".to_owned()];
    let mut sent = 0;
    for (host, own, forwarded) in [
        (&own_host, format!("http://{own_host}"), &[][..]),
        (&"chat.example".to_owned(), "https://chat.example".to_owned(), &through_proxy[..]),
    ] {
        let origins = [
            (vec![], None),
            (vec![own.as_str()], Some(true)),
            (vec![LISTED], Some(true)),
            (vec!["https://evil.example"], Some(false)),
            (vec!["null"], Some(false)),
            (vec![""], Some(false)),
            (vec![own.as_str(), "https://evil.example"], Some(false)),
            (vec!["https://page.example.evil.example"], Some(false)),
        ];
        for (values, allowed) in origins {
            for site in ["", "same-origin", "none", "same-site", "cross-site", "odd"] {
                for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                    let mut lines = vec![format!("Host: {host}")];
                    lines.extend(forwarded.iter().cloned());
                    lines.extend(values.iter().map(|value| format!("Origin: {value}")));
                    if !site.is_empty() {
                        lines.push(format!("Sec-Fetch-Site: {site}"));
                    }
                    let answer = ask(&server, method, &lines);
                    // Without `Origin`, the browser's word about the site counts.
                    let expected = allowed.unwrap_or(["", "same-origin", "none"].contains(&site));
                    let place = format!("{method} {lines:?}: {answer:?}");
                    let readable = format!("access-control-allow-origin: {LISTED}");
                    assert_eq!(answer.headers.contains(&readable), values == [LISTED], "{place}");
                    assert!(answer.headers.contains("vary: accept, origin"), "{place}");
                    if !expected {
                        assert_eq!(answer.status, 403, "{place}");
                        if method != "HEAD" {
                            assert_eq!(answer.refusal().1, "origin_refused", "{place}");
                        }
                        continue;
                    }
                    match method {
                        "POST" => {
                            assert_eq!(answer.status, 201, "{place}");
                            sent += 1;
                        }
                        "OPTIONS" => {
                            assert_eq!(answer.status, 204, "{place}");
                            let methods = "access-control-allow-methods: get, head, post, options";
                            assert!(answer.headers.contains(methods), "{place}");
                            assert!(answer.headers.contains(
                                "access-control-allow-headers: authorization, content-type"
                            ));
                        }
                        _ => assert_eq!(answer.status, 200, "{place}"),
                    }
                }
            }
        }
    }
    let lines = curl(&server, "/rooms/lobby?since=all", &[]).lines();
    assert_eq!(lines.len(), sent, "what was refused is not stored");
}

#[test]
fn p23_over_http_a_name_that_leads_to_this_machine_is_refused() {
    let server = server();
    let port = server.address().rsplit(':').next().unwrap();
    let forged = [
        vec![],
        vec!["X-Forwarded-For: 127.0.0.1"],
        vec!["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"],
        vec!["X-Forwarded-For: ", "X-Forwarded-Proto: https"],
        vec!["X-Forwarded-Proto: https"],
    ];
    for name in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1"] {
        for forwarded in &forged {
            // The page's own origin; a GET of the page bears none.
            for origin in [None, Some(format!("Origin: http://{name}:{port}"))] {
                for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                    let mut lines = vec![format!("Host: {name}:{port}")];
                    lines.extend(forwarded.iter().map(|line| (*line).to_owned()));
                    lines.extend(origin.clone());
                    let answer = ask(&server, method, &lines);
                    let expected = if origin.is_some() { 403 } else { 421 };
                    assert_eq!(answer.status, expected, "{method} {lines:?}: {answer:?}");
                    assert!(!answer.headers.contains("access-control"), "{answer:?}");
                }
            }
        }
    }
    // A name with the server's own port that is listed, behind a proxy on this machine.
    let listed = Server::with("[listen]\norigins = [\"http://chat.example:8765\"]\n").start();
    let other = [format!("Host: chat.example:{port}"), "X-Forwarded-For: 127.0.0.1".to_owned()];
    assert_eq!(ask(&listed, "GET", &other).status, 200, "another port is a proxy's");
    assert_eq!(curl(&server, "/rooms", &[]).body.trim(), "{\"rooms\":[]}", "nothing is stored");
}

#[test]
fn pages_of_other_origins_are_refused_over_tls_too() {
    let server = Server::with(FAST).mode(Mode::Secured).start();
    let own = format!("Origin: https://{}", server.address());
    for (origin, status) in
        [(own.as_str(), 201), ("Origin: https://evil.example", 403), ("Origin: null", 403)]
    {
        let answer = curl(&server, "/rooms/lobby", &["-H", origin, "-d", "hola"]);
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
    }
    let rebound = curl(&server, "/rooms/lobby", &["-H", "Host: evil.example", "-d", "hola"]);
    assert_eq!(rebound.refusal(), (421, "wrong_host".to_owned()));
}
