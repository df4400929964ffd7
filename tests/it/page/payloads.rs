//! Texts and names that try to be more than text.

/// The longest message.
const MESSAGE_CHARS: usize = 4096;

/// Ways to run a script; `@` stands for the number of the message.
const SCRIPTS: [&str; 40] = [
    "<script>canary(@)</script>",
    "<SCRIPT SRC=data:text/javascript,canary(@)></SCRIPT>",
    "<img src=x onerror=canary(@)>",
    "<img src=x onerror=\"tellTheTest('@')\">",
    "<svg onload=canary(@)>",
    "<svg><script>canary(@)</script></svg>",
    "<svg><animate onbegin=canary(@) attributeName=x dur=1s>",
    "<svg><use href=\"data:image/svg+xml,<svg id=x><script>canary(@)</script></svg>#x\"></svg>",
    "<iframe srcdoc='<script>parent.canary(@)</script>'></iframe>",
    "<iframe src=javascript:parent.canary(@)></iframe>",
    "<object data=javascript:canary(@)></object>",
    "<embed src=javascript:canary(@)>",
    "<a href=javascript:canary(@)>click</a>",
    "<a href=\"java\tscript:canary(@)\">click</a>",
    "<form action=javascript:canary(@)><button autofocus>click</button></form>",
    "<input autofocus onfocus=canary(@)>",
    "<details open ontoggle=canary(@)>",
    "<video><source onerror=canary(@)></video>",
    "<body onload=canary(@)>",
    "<marquee onstart=canary(@)>",
    "<meta http-equiv=refresh content='0;url=javascript:canary(@)'>",
    "<base href=http://elsewhere.example/>",
    "<link rel=stylesheet href=http://elsewhere.example/@.css>",
    "<style>*{display:none!important}body{background:url(http://elsewhere.example/@)}</style>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=x onerror=canary(@)&gt;\">",
    "<template><img src=x onerror=canary(@)></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=canary(@)>\">",
    "<xss style=animation-name:x onanimationstart=canary(@)>",
    "<custom-element onclick=canary(@) tabindex=1 onfocus=canary(@) id=x>",
    "javascript:canary(@)",
    "javascript://elsewhere.example/%0acanary(@)",
    "data:text/html,<script>opener.canary(@)</script>",
    "vbscript:canary(@)",
    "blob:http://127.0.0.1/canary(@)",
    "http://elsewhere.example/\"onmouseover=\"canary(@)",
    "https://elsewhere.example/?<script>canary(@)</script>",
    "${canary(@)}",
    "{{constructor.constructor('canary(@)')()}}",
    "#{canary(@)} <%= canary(@) %> [[${canary(@)}]] @{canary(@)}",
    "\\u003cimg src=x onerror=canary(@)\\u003e &lt;script&gt;canary(@)&lt;/script&gt; %3Cscript%3Ecanary(@)%3C/script%3E",
];

/// What closes the place in which a text could stand.
const ENDS: [&str; 10] =
    ["", "\">", "'>", "-->", "</textarea>", "</title>", "</script>", "]]>", "`);", "'-\"-`\\"];

/// Lines that look like something else.
const POSES: [&str; 20] = [
    "[00:00:00] ana: I am somebody else",
    "ana: I am somebody else",
    "-- ana joined",
    "-- ana left",
    "-- connection lost",
    "-- messages 1 to 9999 are missing",
    "✓ ana (verified)",
    "{\"type\":\"redacted\",\"room\":\"lobby\",\"seq\":1}",
    "{\"type\":\"encryption_key\",\"room\":\"lobby\",\"key\":\"AAAA\"}",
    "__proto__",
    "constructor",
    "toString",
    "{\"__proto__\":{\"content\":\"polluted\"}}",
    "null",
    "undefined",
    "[object Object]",
    "/leave",
    "/quit",
    "%s %o %c %n",
    "&amp;&lt;&#0;&#x202e;",
];

/// Characters that move, hide or break others.
const CHARACTERS: [&str; 24] = [
    "\u{202e}",
    "\u{202d}",
    "\u{2066}",
    "\u{2067}",
    "\u{2068}",
    "\u{2069}",
    "\u{200e}",
    "\u{200f}",
    "\u{200b}",
    "\u{200d}",
    "\u{2060}",
    "\u{feff}",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{0}",
    "\u{7}",
    "\u{8}",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{7f}",
    "\u{9b}31m",
    "\u{ad}",
    "\u{e0041}",
    "\u{fffe}",
];

/// Messages, each different, of every kind.
pub fn messages(count: usize) -> Vec<String> {
    (0..count).map(message).collect()
}

/// The last words of each message, by which it is found.
pub fn mark(number: usize) -> String {
    format!("end of {number}")
}

fn message(number: usize) -> String {
    let (kind, variant) = (number % 8, number / 8);
    let mark = mark(number);
    // A large one now and then; many would only be slow.
    if number % 100 == 99 {
        return format!("{} {mark}", large(number / 100));
    }
    let script = SCRIPTS[variant % SCRIPTS.len()].replace('@', &number.to_string());
    let text = match kind {
        0 | 1 => script,
        2 => format!("{}{script}", ENDS[variant / 2 % ENDS.len()]),
        3 => script.to_uppercase().replace("CANARY", "canary"),
        4 => POSES[variant % POSES.len()].to_owned(),
        5 => {
            let character = CHARACTERS[variant % CHARACTERS.len()];
            format!("gnp{character}.exe{character}{character} abc \u{5d0}\u{5d1}{character}")
        }
        6 => format!("{}{script}", CHARACTERS[variant % CHARACTERS.len()]),
        _ => format!("\n\n{}\n{script}\n\t", POSES[variant % POSES.len()]),
    };
    format!("{text} {mark}")
}

/// A text near the limit, of one kind.
fn large(variant: usize) -> String {
    let room = MESSAGE_CHARS - 32;
    let fill = |unit: &str| unit.repeat(room / unit.chars().count());
    match variant % 12 {
        0 => fill("W"),
        // One of the widest characters there are.
        1 => fill("\u{fdfd}"),
        2 => format!("Z{}", fill("\u{336}\u{489}\u{30d}\u{31a}")),
        3 => fill("a\u{336}\u{489}\u{30d}\u{31a}\u{353}\u{354}"),
        4 => fill("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}"),
        5 => fill("\u{202e}\u{2067}"),
        6 => fill("\u{200b}"),
        7 => fill("<b>"),
        8 => fill("http://elsewhere.example/"),
        9 => fill("\n"),
        10 => fill("\t"),
        _ => fill("\u{12031}"),
    }
}

/// User names that the server lets through.
pub const NAMES: [&str; 8] = [
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
    "-- ana joined",
    "__proto__",
    "\u{5d0}\u{5d1}\u{5d2} 12.34.56",
    "ana  ana",
    "constructor",
    "\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}\u{4e00}",
    "...---...",
];
