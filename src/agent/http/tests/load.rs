//! Clients that keep connections open, send too many requests, or do not read.

use super::*;

/// Connects from a local address. With an address other than the server's, the client counts as
/// another host.
fn connect_from(last: u8, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

fn is_over(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn clients_that_hold_connections_do_not_block_others() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let from = |last| connect_from(last, server.address);
    let small = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let asked = |stream| assert!(until_hung_up(stream, small).starts_with("HTTP/1.1 200 "));
    for begun in ["", "GET /livez HT"] {
        // 264 connections: of many hosts, of a host with most of them, and of the node itself.
        let peers = (2..42).cycle().take(200).chain([50; 64]).chain([1; 64]);
        let mut held: Vec<_> = peers.map(from).collect();
        for stream in &mut held {
            // It may have been closed already.
            let _ = stream.write_all(begun.as_bytes());
        }
        // The kubelet, a load balancer, and a host that already has most connections.
        [1, 99, 50].into_iter().for_each(|last| asked(from(last)));
        // None of them had to wait for the end of other connections.
        let open = held.iter().filter(|stream| !is_over(stream)).count();
        assert!(open > MOST_OF_OTHERS / 2, "{open} of {} are open", held.len());
        assert!(open <= MOST_OF_OTHERS + MOST_OF_A_PEER, "{open} are open");
        // One peer has no more than its share, and this costs the others none.
        let open = |held: &[TcpStream]| held.iter().filter(|stream| !is_over(stream)).count();
        assert!(open(&held[200..264]) <= MOST_OF_A_PEER);
        assert!(open(&held[264..]) <= MOST_OF_A_PEER);
    }
}

#[test]
fn many_ports_have_no_more_connections_than_one() {
    let places = Arc::<Places>::default();
    let start = || {
        let places = Arc::clone(&places);
        let patient = Limits { head: NEVER, connection: NEVER };
        Server::start(move |listener, stopped| async move {
            let answer = |_| ready(respond(StatusCode::OK, "text/plain", ""));
            serve(listener, places, patient, answer, async {
                let _ = stopped.await;
            })
            .await;
        })
    };
    let servers: Vec<_> = (0..8).map(|_| start()).collect();
    let connect = |server: &Server| -> Vec<_> {
        (2..42).chain([1; 20]).map(|last| connect_from(last, server.address)).collect()
    };
    let held: Vec<_> = servers.iter().flat_map(connect).collect();
    let open = || held.iter().filter(|stream| !is_over(stream)).count();
    while open() > MOST_OF_OTHERS + MOST_OF_A_PEER {
        thread::sleep(SHORT / 100);
    }
    for server in &servers {
        assert!(server.get("/").starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn the_question_of_a_closed_client_is_recognised() {
    let (questions, asked) = mpsc::channel();
    let server = metrics_server(&health(), move |query| questions.send(query).unwrap());
    for path in ["/explain?destination=10.96.0.1:80&from=node", "/status", "/metrics"] {
        let mut client = connect_from(1, server.address);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let query: Query = asked.recv().unwrap();
        assert!(!query.is_abandoned(), "{path}");
        drop(client);
        while !query.is_abandoned() {
            thread::sleep(SHORT / 100);
        }
    }
}

#[test]
fn many_small_requests_do_not_block_others() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let small = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let peers = || (2..42).cycle().take(264);
    let mut held: Vec<_> = peers().map(|last| connect_from(last, server.address)).collect();
    for _ in 0..3 {
        for stream in &mut held {
            let _ = stream.write_all(small);
        }
        assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
        // A connection ends with its answer, so all clients must connect again.
        for (stream, last) in held.iter_mut().zip(peers()) {
            let ended = replace(stream, connect_from(last, server.address));
            let _ = until_hung_up(ended, b"");
        }
    }
}

#[test]
fn slow_heads_and_slow_readers_are_cut_off() {
    let large = Bytes::from(vec![b'a'; 64 << 20]);
    let limits = Limits { head: SHORT, connection: 2 * SHORT };
    let server = Server::start(move |listener, stopped| async move {
        let answer = move |_| ready(respond(StatusCode::OK, "text/plain", large.clone()));
        serve(listener, Arc::default(), limits, answer, async {
            let _ = stopped.await;
        })
        .await;
    });
    let connect = || TcpStream::connect(server.address).unwrap();
    let drips = |mut stream: TcpStream, head: Vec<u8>| {
        head.into_iter().any(|byte| {
            thread::sleep(SHORT / 20);
            stream.write_all(&[byte]).is_err()
        })
    };
    let head = b"GET / HTTP/1.1\r\nX: ".iter().chain(repeat_n(&b'a', TRICKLE)).copied();
    assert!(drips(connect(), head.collect()), "the slow one was let finish {TRICKLE} bytes");
    assert_eq!(until_hung_up(connect(), b""), "");

    // A slow reader.
    let mut slow = connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let read = iter::from_fn(|| {
        thread::sleep(SHORT / 10);
        slow.read(&mut [0; 1024]).ok().filter(|read| *read > 0)
    });
    let read: usize = read.take(40).sum();
    let rest = slow.read_to_end(&mut Vec::new()).unwrap_or_default();
    assert!(read + rest < 64 << 20, "the slow one was let read all of it");
}

#[test]
fn a_large_answer_is_computed_once_for_all_clients() {
    const CLIENTS: usize = 12;
    let (asked, questions) = mpsc::channel();
    let server = metrics_server(&health(), move |query| asked.send(query).unwrap());
    let client = server.client();
    let statuses: Vec<_> = (0..CLIENTS)
        .map(|_| thread::spawn(move || client.status(&StatusQuestion::default()).map(drop)))
        .collect();
    // The engine's thread is busy until all clients have asked.
    let first = questions.recv().unwrap();
    thread::sleep(SHORT);
    answer_of_empty_engine(first);
    let more = iter::from_fn(|| questions.recv_timeout(2 * SHORT).ok());
    let more = more.map(answer_of_empty_engine).count();
    statuses.into_iter().for_each(|status| status.join().unwrap().unwrap());
    // Clients that arrived during the largest number of answers share the next.
    assert!(more <= MOST_ANSWERS, "made {more} times more");
}

/// The readings of the kernel that run at present, and the most that ran at once.
static READINGS: Mutex<[usize; 2]> = Mutex::new([0; 2]);
/// Whether a reading may end.
static MAY_END: AtomicBool = AtomicBool::new(false);

fn read_for_long() {
    let count = |change: isize| {
        let mut readings = READINGS.lock().unwrap();
        readings[0] = readings[0].strict_add_signed(change);
        readings[1] = readings[0].max(readings[1]);
    };
    count(1);
    while !MAY_END.load(Ordering::Relaxed) {
        thread::sleep(SHORT / 100);
    }
    count(-1);
}

#[test]
fn readings_for_clients_that_are_gone_are_bounded() {
    let kernel = KernelReaders {
        busiest: |_| {
            read_for_long();
            Ok(Vec::new())
        },
        connections: |_, _| {
            read_for_long();
            Ok(ConnectionsView::default())
        },
        ..UNREADABLE
    };
    let engine = Mutex::new(large_engine());
    let server = metrics_server_of(&health(), kernel, move |query| {
        let Query::Status { filter, busiest, reply } = query else { return };
        drop(reply.send(api::status(&engine.lock().unwrap(), None, &filter, busiest.as_deref())));
    });
    let paths = ["/status?busiest=bytes&limit=1", "/connections?namespace=default&name=web-1"];
    let ask = |path: &str| {
        let mut client = connect_from(1, server.address);
        write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        client
    };
    for (begun, path) in (1..).zip(paths.into_iter().cycle().take(MOST_ANSWERS)) {
        let client = ask(path);
        while READINGS.lock().unwrap()[0] < begun {
            thread::sleep(SHORT / 100);
        }
        drop(client);
    }
    // Their clients are gone, and the readings are not.
    for path in paths {
        let answer = until_hung_up(ask(path), b"");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
    }
    assert_eq!(READINGS.lock().unwrap()[1], MOST_ANSWERS);
    MAY_END.store(true, Ordering::Relaxed);
}

#[test]
fn answers_under_way_are_bounded() {
    let engine = Arc::new(Mutex::new(large_engine()));
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let server = metrics_server(&health(), move |query| {
        let Query::Status { filter, busiest, reply } = query else { return };
        counted.fetch_add(1, Ordering::Relaxed);
        drop(reply.send(api::status(&engine.lock().unwrap(), None, &filter, busiest.as_deref())));
    });
    // They read just enough to see that the answer has begun.
    let begin = |_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        stream
    };
    let mut reading: Vec<_> = (0..MOST_ANSWERS).map(begin).collect();
    let crowded = server.get("/status");
    assert!(crowded.starts_with("HTTP/1.1 503 ") && crowded.contains("ask again"), "{crowded}");
    assert_eq!(made.load(Ordering::Relaxed), MOST_ANSWERS);
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
    // The end of an answer makes space.
    drop(reading.pop());
    server.client().status(&StatusQuestion::default()).unwrap();
}

#[test]
fn other_large_answers_under_way_are_bounded() {
    let kernel = KernelReaders {
        connections: |_, _| {
            let peer = serde_json::json!({"address": "10.0.0.1:1"});
            let one =
                serde_json::json!({"client": peer, "frontend": "", "backend": peer, "carrier": ""});
            let connection: ConnectionView = serde_json::from_value(one).unwrap();
            let connections = vec![connection; 100_000];
            Ok(ConnectionsView { connections, ..ConnectionsView::default() })
        },
        ..UNREADABLE
    };
    let engine = Mutex::new(large_engine());
    let server = metrics_server_of(&health(), kernel, move |query| {
        let engine = engine.lock().unwrap();
        match query {
            Query::Status { filter, busiest, reply } => {
                drop(reply.send(api::status(&engine, None, &filter, busiest.as_deref())));
            }
            Query::Names { reply, .. } => drop(reply.send(BTreeMap::new())),
            Query::Explain { question, reply } => {
                let explain = |destination, from| {
                    let reason = "long ".repeat(2_000_000);
                    Explanation { reason, ..explain_present(&engine, destination, from) }
                };
                drop(reply.send(api::explained(&question, engine.state(), explain)));
            }
            Query::Traffic { .. } => {}
        }
    });
    for path in
        ["/connections?namespace=default&name=web-1", "/explain?destination=10.96.0.1:1&from=node"]
    {
        let begin = |_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut begun = [0; 64];
            stream.read_exact(&mut begun).unwrap();
            assert!(begun.starts_with(b"HTTP/1.1 200 "), "{path}");
            stream
        };
        let reading: Vec<_> = (0..MOST_ANSWERS).map(begin).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let crowded = server.send(&request);
        assert!(crowded.starts_with("HTTP/1.1 503 "), "{path}: {}", &crowded[..80]);
        assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
        drop(reading);
    }
}

#[test]
fn status_is_narrowed_and_counted_on_request() {
    let engine = Mutex::new(large_engine());
    let server = metrics_server(&health(), move |query| {
        let Query::Status { filter, busiest, reply } = query else { return };
        drop(reply.send(api::status(&engine.lock().unwrap(), None, &filter, busiest.as_deref())));
    });
    let status = |query: &str| {
        let answer = server.get(&format!("/status?{query}"));
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        serde_json::from_str::<serde_json::Value>(&body).unwrap_or(body.into())
    };
    let all = status("");
    let (services, omitted) = (all["services"].as_array().unwrap(), all["omitted"].as_u64());
    assert_eq!((services.len(), omitted), (LARGE, None));
    let part = status("limit=3");
    assert_eq!(part["services"].as_array().unwrap()[..], services[..3]);
    assert_eq!((&part["omitted"], &part["totals"]), (&(LARGE - 3).into(), &all["totals"]));
    let named = services[5]["service"].as_str().unwrap();
    assert_eq!(
        status(&format!("search={}&limit=9", named.to_uppercase()))["services"][0],
        services[5]
    );
    let address = services[7]["frontends"][0]["address"].as_str().unwrap();
    let ip = address.parse::<VirtualAddress>().unwrap().ip;
    assert_eq!(status(&format!("search={ip}"))["services"], serde_json::json!([services[7]]));
    assert_eq!(status("state=ejected")["totals"]["services"], 0);
    assert_eq!(status("state=dead"), "state: \"dead\" is not ejected, draining or refused");
    assert_eq!(status("limit=-1"), "limit: invalid digit found in string");
    assert_eq!(all.get("uncounted"), None);
    let uncounted = &status("counters=true&limit=1")["uncounted"];
    let reason = "cannot read the counters of IPVS: the counters: not permitted";
    assert!(uncounted.as_str().unwrap().starts_with(reason), "{uncounted}");
}

/// The number of Services of [`large_engine`].
const LARGE: usize = 8000;

/// Returns an engine whose status is larger than socket buffers.
fn large_engine() -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let service = |index: u16| {
        let [high, low] = index.to_be_bytes();
        let ports = (1..=10).map(|port| ServicePort {
            name: format!("port-{port}").into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        });
        Service {
            cluster_ips: [[10, 96, high, low].into()].into(),
            ports: ports.collect(),
            ..Service::named(ServiceKey::new("default", &format!("web-{index}")))
        }
    };
    engine.handle_event(Event::Service(Change::Replace((0..LARGE as u16).map(service).collect())));
    engine.handle_event(Event::Slice(Change::Replace(Vec::new())));
    engine.handle_event(Event::ServiceCidrs(Change::Replace(Vec::new())));
    engine.handle_event(Event::Node(None));
    engine.settle(&mut EmptyKernel::new(Instant::now(), all_succeed)).unwrap();
    engine
}
