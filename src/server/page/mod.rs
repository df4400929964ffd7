//! The web page: a chat client for browsers, at the server's own address.
//!
//! Its files are in `files/`, as a browser reads them: there is no build step. They are part of the program.
//! `assets` lists them and computes once what is sent; `answer` answers one HTTP request for one of them;
//! `preference` reads the two headers by which a client says what it accepts.

mod answer;
mod assets;
mod preference;

pub use answer::answer;
