//! The files of the page: as they are, packed with gzip, and with an entity tag. Computed at the first request.

use std::io::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};

use crate::protocol::hex::hex;

/// The path of the page itself.
pub const PAGE: &str = "/";
/// The path of the service worker. It is not below `/page/`, because a worker serves the paths below its own.
const WORKER: &str = "/service-worker.js";
/// What stands in the service worker for the hash of all files.
const VERSION: &str = "{VERSION}";
/// What stands in the service worker for the paths of all files.
const PATHS: &str = "{PATHS}";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const MANIFEST: &str = "application/manifest+json";
const SVG: &str = "image/svg+xml";
const PNG: &str = "image/png";

/// Path, content type and content of each file.
macro_rules! files {
    ($($path:literal $file:literal $kind:ident,)*) => {
        [$(($path, $kind, include_bytes!(concat!("files/", $file)).as_slice()),)*]
    };
}

const FILES: &[(&str, &str, &[u8])] = &files![
    "/" "index.html" HTML,
    "/service-worker.js" "service-worker.js" SCRIPT,
    "/manifest.webmanifest" "manifest.webmanifest" MANIFEST,
    "/favicon.ico" "icon-192.png" PNG,
    "/page/icon.svg" "icon.svg" SVG,
    "/page/icon-192.png" "icon-192.png" PNG,
    "/page/icon-512.png" "icon-512.png" PNG,
    "/page/page.css" "page.css" CSS,
    "/page/app.js" "app.js" SCRIPT,
    "/page/composer.js" "composer.js" SCRIPT,
    "/page/connection.js" "connection.js" SCRIPT,
    "/page/conversation.js" "conversation.js" SCRIPT,
    "/page/drafts.js" "drafts.js" SCRIPT,
    "/page/fernet.js" "fernet.js" SCRIPT,
    "/page/line.js" "line.js" SCRIPT,
    "/page/log_view.js" "log_view.js" SCRIPT,
    "/page/main.js" "main.js" SCRIPT,
    "/page/notice_bar.js" "notice_bar.js" SCRIPT,
    "/page/notices.js" "notices.js" SCRIPT,
    "/page/outbox.js" "outbox.js" SCRIPT,
    "/page/protocol.js" "protocol.js" SCRIPT,
    "/page/room_log.js" "room_log.js" SCRIPT,
    "/page/session.js" "session.js" SCRIPT,
    "/page/shown_text.js" "shown_text.js" SCRIPT,
    "/page/sidebar.js" "sidebar.js" SCRIPT,
    "/page/sign_in.js" "sign_in.js" SCRIPT,
    "/page/spanish.js" "spanish.js" SCRIPT,
    "/page/status.js" "status.js" SCRIPT,
    "/page/storage.js" "storage.js" SCRIPT,
    "/page/tabs.js" "tabs.js" SCRIPT,
    "/page/words.js" "words.js" SCRIPT,
];

/// A file as it is sent.
pub struct Asset {
    /// The path in the URL.
    pub path: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub content: Bytes,
    /// The content packed with gzip; `None` if that is no shorter.
    pub gzip: Option<Bytes>,
    /// The entity tag of the content.
    pub tag: HeaderValue,
    /// The entity tag of the packed content.
    pub gzip_tag: HeaderValue,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let plain = FILES.iter().map(|(path, kind, content)| match *path {
        WORKER => Asset::new(path, kind, worker(content).into()),
        path => Asset::new(path, kind, Bytes::from_static(content)),
    });
    plain.collect()
});

/// All files.
pub fn all() -> &'static [Asset] {
    &ASSETS
}

/// The file at a path.
pub fn at(path: &str) -> Option<&'static Asset> {
    all().iter().find(|asset| asset.path == path)
}

impl Asset {
    fn new(path: &'static str, content_type: &'static str, content: Bytes) -> Self {
        let gzip = Some(packed(&content)).filter(|packed| packed.len() < content.len());
        let hash = hex(&Sha256::digest(&content)[..16]);
        let tag = |text: String| HeaderValue::from_str(&text).expect("hexadecimal");
        Asset {
            path,
            content_type,
            content,
            gzip,
            tag: tag(format!("\"{hash}\"")),
            gzip_tag: tag(format!("\"{hash}-gzip\"")),
        }
    }
}

/// The service worker, with the paths of the files that it keeps and a hash of them. A browser installs a worker
/// whose text changed, so a page that changed in any file is taken over as a whole.
fn worker(template: &[u8]) -> String {
    let kept: Vec<_> = FILES.iter().filter(|(path, ..)| *path != WORKER).collect();
    let mut hash = Sha256::new();
    for (path, _, content) in &kept {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    let paths: Vec<_> = kept.iter().map(|(path, ..)| format!("\"{path}\"")).collect();
    let template = String::from_utf8_lossy(template);
    template.replace(VERSION, &hex(&hash.finalize()[..8])).replace(PATHS, &paths.join(", "))
}

fn packed(content: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("writing to memory");
    encoder.finish().expect("writing to memory").into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::protocol::ErrorCode;

    /// The largest size of the page, all files packed.
    const MAX_PACKED_BYTES: usize = 60 * 1024;

    fn text(asset: &Asset) -> String {
        String::from_utf8(asset.content.to_vec()).unwrap()
    }

    fn modules() -> impl Iterator<Item = &'static Asset> {
        all().iter().filter(|asset| asset.content_type == SCRIPT && asset.path != WORKER)
    }

    /// What stands in quotes after `before`, wherever that is in the text.
    fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        let rests = text.split(before).skip(1);
        rests.filter_map(|rest| rest.split(['"', '\'']).next()).collect()
    }

    #[test]
    fn the_page_is_small() {
        let sent = |asset: &Asset| asset.gzip.as_ref().unwrap_or(&asset.content).len();
        let total: usize = all().iter().map(sent).sum();
        let sizes: Vec<_> = all().iter().map(|asset| (asset.path, sent(asset))).collect();
        assert!(total < MAX_PACKED_BYTES, "{total} bytes: {sizes:?}");
    }

    #[test]
    fn gzip_unpacks_to_the_content() {
        for asset in all() {
            let Some(gzip) = &asset.gzip else { continue };
            let mut unpacked = Vec::new();
            GzDecoder::new(gzip.as_ref()).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, asset.content, "{}", asset.path);
        }
    }

    #[test]
    fn the_page_loads_every_module_at_once_and_nothing_from_elsewhere() {
        let page = text(at(PAGE).unwrap());
        let preloaded: BTreeSet<_> =
            quoted_after(&page, "rel=\"modulepreload\" href=\"").into_iter().collect();
        let main = quoted_after(&page, "type=\"module\" src=\"");
        let loaded: BTreeSet<_> = preloaded.iter().copied().chain(main).collect();
        let listed: BTreeSet<_> = modules().map(|asset| asset.path).collect();
        assert_eq!(loaded, listed);
        for asset in all() {
            if asset.content_type == PNG {
                continue;
            }
            let text = text(asset).replace("http://www.w3.org/2000/svg", "");
            for scheme in ["//cdn", "src=\"http", "href=\"http", "url(http", "@import"] {
                assert!(!text.contains(scheme), "{} names {scheme}", asset.path);
            }
        }
        for link in quoted_after(&page, "href=\"").into_iter().chain(quoted_after(&page, "src=\""))
        {
            assert!(at(link).is_some() || link.starts_with('#'), "{link} is served");
        }
    }

    #[test]
    fn every_import_names_a_module() {
        for asset in modules() {
            let text = text(asset);
            let imports = quoted_after(&text, " from \"");
            for import in imports.iter().chain(&quoted_after(&text, "import \"")) {
                let path = import.replacen("./", "/page/", 1);
                assert!(at(&path).is_some(), "{} imports {import}", asset.path);
            }
        }
    }

    #[test]
    fn modules_are_short_and_say_what_they_are_for() {
        for asset in modules() {
            let text = text(asset);
            assert!(text.lines().count() <= 300, "{} is too long", asset.path);
            assert!(text.starts_with("// "), "{} has no head comment", asset.path);
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(sink), "{} has {sink}", asset.path);
            }
        }
    }

    /// The names of the texts in a module with one per line, from the line that begins with `start` on.
    fn names<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
        let lines = text.lines().skip_while(|line| !line.starts_with(start)).skip(1);
        let names = lines.take_while(|line| *line != "};").filter_map(|line| {
            let (name, _) = line.strip_prefix("  ")?.split_once(": ")?;
            name.chars().all(char::is_alphanumeric).then_some(name)
        });
        names.collect()
    }

    #[test]
    fn every_text_is_used_and_has_a_spanish_one() {
        let english = text(at("/page/words.js").unwrap());
        let spanish = text(at("/page/spanish.js").unwrap());
        let used: String = modules().chain(at(PAGE)).map(text).collect();
        let english = names(&english, "const ENGLISH");
        assert!(english.len() > 50, "{english:?}");
        let untranslated = BTreeSet::from(["title"]);
        let spanish = &names(&spanish, "export const SPANISH") | &untranslated;
        assert_eq!(english, spanish);
        for name in english {
            let uses = [
                format!("words.{name}"),
                format!("-text=\"{name}\""),
                format!("-label=\"{name}\""),
                format!("\"{name}\""),
            ];
            assert!(uses.iter().any(|it| used.contains(it)), "{name} is not used");
        }
    }

    #[test]
    fn spanish_has_every_error_code() {
        let spanish = text(at("/page/spanish.js").unwrap());
        for code in ErrorCode::ALL.iter().filter(|code| !code.is_of_http()) {
            assert!(spanish.contains(&format!("\n  {}: ", code.as_str())), "{}", code.as_str());
        }
    }

    #[test]
    fn the_service_worker_keeps_every_other_file_under_a_hash_of_them() {
        let worker = text(at(WORKER).unwrap());
        assert!(!worker.contains(VERSION) && !worker.contains(PATHS));
        for asset in all().iter().filter(|asset| asset.path != WORKER) {
            assert!(worker.contains(&format!("\"{}\"", asset.path)), "{}", asset.path);
        }
    }

    #[test]
    fn the_icons_of_the_manifest_are_served() {
        let manifest: serde_json::Value =
            serde_json::from_str(&text(at("/manifest.webmanifest").unwrap())).unwrap();
        let icons = manifest["icons"].as_array().unwrap();
        assert!(icons.len() >= 2);
        for icon in icons {
            let asset = at(icon["src"].as_str().unwrap()).unwrap();
            assert_eq!(icon["type"], asset.content_type);
        }
    }
}
