//! Lists IPVS as `ipvsadm -Ln` does. With arguments, adds a virtual service before:
//!
//! ```text
//! cargo run -p netlink-ipvs --example ipvs                              # lists
//! cargo run -p netlink-ipvs --example ipvs add 10.96.0.10:80 10.244.1.7:8080 10.244.2.9:8080
//! cargo run -p netlink-ipvs --example ipvs delete 10.96.0.10:80
//! ```

#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use netlink_ipvs::ipvs::{Destination, IpvsCommand, IpvsSocket, ServiceId, VirtualService};

fn main() -> Result<(), Box<dyn Error>> {
    let mut ipvs = IpvsSocket::open()?;
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (command, addresses) = arguments.split_first().unzip();
    let addresses = addresses.unwrap_or_default().iter().map(|it| it.parse());
    let addresses: Vec<SocketAddr> = addresses.collect::<Result<_, _>>()?;
    if let (Some(command), Some((service, destinations))) = (command, addresses.split_first()) {
        let id = ServiceId { ip: service.ip(), port: service.port(), protocol: ServiceId::TCP };
        let mut commands = match command.as_str() {
            "add" => vec![IpvsCommand::AddService(VirtualService::new(id, "rr"))],
            "delete" => vec![IpvsCommand::DeleteService(id)],
            other => return Err(format!("{other}: not a command; use add or delete").into()),
        };
        let destinations = destinations.iter().map(|it| Destination::new(it.ip(), it.port()));
        commands.extend(destinations.map(|it| IpvsCommand::AddDestination(id, it)));
        for (command, answer) in commands.iter().zip(ipvs.apply(&commands)?) {
            match answer {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(format!("{command:?}: {error}").into()),
                None => return Err(format!("{command:?}: no answer").into()),
            }
        }
    }
    for service in ipvs.services()? {
        let ServiceId { ip, port, protocol } = service.id;
        println!("protocol {protocol} {} {}", SocketAddr::new(ip, port), service.scheduler);
        for (destination, connections) in ipvs.destinations(&service.id)? {
            let address = SocketAddr::new(destination.ip, destination.port);
            let (weight, active) = (destination.weight, connections.active);
            println!("  -> {address} weight {weight}, {active} active connections");
        }
    }
    Ok(())
}
