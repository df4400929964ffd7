//! Hosts in network namespaces of their own, on one bridge, so that single directions between two of them can be cut
//! (ip-netns(8), ip-neighbour(8)). It takes the rights of root.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A network of hosts, taken down on drop.
pub struct Network {
    name: String,
    subnet: String,
    hosts: Vec<String>,
}

/// No host has this hardware address, so frames for it arrive nowhere and nobody is told.
const NOWHERE: &str = "02:00:00:00:00:00";

impl Network {
    /// So many hosts, which the tests reach, too. The text says why there can be none here.
    pub fn with_hosts(count: usize) -> Result<Network, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let name = format!("ct{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let subnet = free_subnet()?;
        let mut network = Network { name, subnet, hosts: Vec::new() };
        let bridge = network.name.clone();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}.1/24", network.subnet), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for number in 0..count {
            let host = format!("{bridge}h{number}");
            network.hosts.push(host.clone());
            ip(&["netns", "add", &host])?;
            ip(&["link", "add", &host, "type", "veth", "peer", "name", "eth0", "netns", &host])?;
            ip(&["link", "set", &host, "master", &bridge, "up"])?;
            let address = format!("{}/24", network.address(number));
            ip(&["-n", &host, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &host, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// The IPv4 address of a host.
    pub fn address(&self, host: usize) -> String {
        format!("{}.{}", self.subnet, host + 11)
    }

    /// The command that runs another one on a host.
    pub fn wrapper(&self, host: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.hosts[host]].map(str::to_owned).to_vec()
    }

    /// From now on nothing that `from` sends arrives at `to`. The other direction is as before.
    pub fn cut(&self, from: usize, to: usize) {
        let (host, address) = (&self.hosts[from], self.address(to));
        let target = ["to", &address, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent"];
        ip(&[&["-n", host, "neigh", "replace"][..], &target].concat()).unwrap();
    }

    /// Undoes [`Self::cut`].
    pub fn heal(&self, from: usize, to: usize) {
        let (host, address) = (&self.hosts[from], self.address(to));
        ip(&["-n", host, "neigh", "del", "to", &address, "dev", "eth0"]).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["netns", "del", host]);
        }
        let _ = ip(&["link", "del", &self.name]);
    }
}

/// Calls ip(8).
fn ip(arguments: &[&str]) -> Result<String, String> {
    let failed = |what: String| format!("ip {}: {what}", arguments.join(" "));
    let Output { status, stdout, stderr } =
        Command::new("ip").args(arguments).output().map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        false => Err(failed(String::from_utf8_lossy(&stderr).trim().to_owned())),
    }
}

/// The first three numbers of a private network that this machine does not have.
fn free_subnet() -> Result<String, String> {
    let taken = ip(&["-o", "-4", "addr"])?;
    let start = std::process::id() % 250;
    (0..250)
        .map(|offset| format!("10.197.{}", (start + offset) % 250))
        .find(|subnet| !taken.contains(&format!(" {subnet}.")))
        .ok_or_else(|| "no network is free".to_owned())
}

/// Removes what a killed test process has left behind.
fn remove_leftovers() {
    let Ok(spaces) = ip(&["netns", "list"]) else { return };
    let Ok(links) = ip(&["-o", "link", "show", "type", "bridge"]) else { return };
    let is_left = |name: &str| {
        let process = name.strip_prefix("ct").and_then(|rest| rest.split('-').next());
        process.is_some_and(|process| {
            process.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(process).exists()
        })
    };
    for name in spaces.lines().filter_map(|line| line.split_whitespace().next()) {
        if is_left(name) {
            let _ = ip(&["netns", "del", name]);
        }
    }
    for name in links.lines().filter_map(|line| line.split([' ', ':', '@']).nth(2)) {
        if is_left(name) {
            let _ = ip(&["link", "del", name]);
        }
    }
}
