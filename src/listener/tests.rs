use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{slot::Full, *};

fn config(addresses: &[&str], max_connections: usize, max_per_address: usize) -> Config {
    Config {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        max_connections,
        max_per_address,
    }
}

/// Connects and takes the connection; the caller holds both ends.
async fn pair(listener: &Listener, index: usize) -> (TcpStream, Accepted) {
    let address = listener.local_addrs()[index];
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), accepted)
}

fn caps(total: usize, per_address: usize) -> Arc<Caps> {
    let caps = Arc::new(Caps::default());
    caps.set(total, per_address);
    caps
}

#[tokio::test]
async fn every_address_is_served() {
    let listener = Listener::bind(&config(&["127.0.0.1:0", "127.0.0.1:0"], 10, 10)).unwrap();
    for index in [0, 1, 1, 0] {
        let (mut client, mut accepted) = pair(&listener, index).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(accepted.stream.read_u8().await.unwrap(), b'x');
        assert_eq!(accepted.peer, client.local_addr().unwrap());
        assert!(accepted.stream.nodelay().unwrap());
    }
}

#[tokio::test]
async fn a_connection_over_the_cap_is_closed_and_a_freed_slot_serves_again() {
    let listener = Listener::bind(&config(&["127.0.0.1:0"], 10, 1)).unwrap();
    let (_first, accepted) = pair(&listener, 0).await;
    let mut second = TcpStream::connect(listener.local_addrs()[0]).await.unwrap();
    let closed = tokio::select! {
        read = second.read_u8() => read,
        _ = listener.accept() => panic!("admitted over the cap"),
    };
    assert!(closed.is_err());
    assert_eq!((listener.connections(), listener.refused()), (1, 1));
    drop(accepted);
    let (_third, _accepted) = pair(&listener, 0).await;
    assert_eq!(listener.connections(), 1);
}

#[tokio::test]
async fn rebinding_keeps_sockets_and_counts() {
    let before = Listener::bind(&config(&["127.0.0.1:0"], 2, 2)).unwrap();
    let (_client, _accepted) = pair(&before, 0).await;
    let port = before.local_addrs()[0];
    let after = before
        .rebind(&config(&["127.0.0.1:0", "127.0.0.1:0"], 2, 2))
        .unwrap();
    drop(before);
    assert_eq!(after.local_addrs()[0], port);
    assert_ne!(after.local_addrs()[1], port);
    let (_client, _second) = pair(&after, 0).await;
    assert_eq!(after.connections(), 2);
}

#[tokio::test]
async fn one_address_becomes_all_of_them_and_back_without_letting_anybody_in() {
    // A port that nobody has on any other address of this machine.
    let everywhere = || {
        std::net::TcpListener::bind("0.0.0.0:0")
            .unwrap()
            .local_addr()
    };
    let narrow = || format!("127.0.0.1:{}", everywhere().unwrap().port());
    let mut tries = (0..20).map(|_| Listener::bind(&config(&[&narrow()], 10, 10)));
    let first = tries.find_map(Result::ok).unwrap();
    let port = first.local_addrs()[0].port();
    let wide = format!("0.0.0.0:{port}");
    let narrow = format!("127.0.0.1:{port}");
    let second = first.rebind(&config(&[&wide], 10, 10)).unwrap();
    for taken in [&wide, &narrow] {
        assert!(Listener::bind(&config(&[taken], 10, 10)).is_err());
    }
    drop(first);
    drop(pair(&second, 0).await);
    let third = second.rebind(&config(&[&narrow], 10, 10)).unwrap();
    drop(second);
    drop(pair(&third, 0).await);
    // What somebody else has is refused still, and ours is as it was.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    assert!(third.rebind(&config(&[&narrow, &taken], 10, 10)).is_err());
    drop(pair(&third, 0).await);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let listener = Listener::bind(&config(&["127.0.0.1:0"], 1, 1)).unwrap();
    let taken = listener.local_addrs()[0].to_string();
    let error = Listener::bind(&config(&[&taken], 1, 1)).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&taken));
    let error = Listener::bind(&config(&["192.0.2.1:0"], 1, 1)).unwrap_err();
    assert!(matches!(error, BindError::NotLocal { .. }), "{error:?}");
}

#[test]
fn one_address_is_an_ipv4_address_or_an_ipv6_network() {
    let caps = caps(100, 1);
    let take = |text: &str| caps.take(text.parse().unwrap());
    let _held = [take("192.0.2.1").unwrap(), take("2001:db8:0:1::1").unwrap()];
    assert_eq!(take("192.0.2.1").unwrap_err(), Full::Address);
    assert_eq!(take("::ffff:192.0.2.1").unwrap_err(), Full::Address);
    assert_eq!(take("2001:db8:0:1:ffff::9").unwrap_err(), Full::Address);
    assert!(take("192.0.2.2").is_ok());
    assert!(take("2001:db8:0:2::1").is_ok());
}

#[test]
fn the_table_holds_only_addresses_with_live_connections() {
    let caps = caps(3, 2);
    let take = |text: &str| caps.take(text.parse().unwrap());
    let mut held = vec![take("10.0.0.1").unwrap(), take("10.0.0.1").unwrap()];
    held.push(take("10.0.0.2").unwrap());
    assert_eq!(take("10.0.0.3").unwrap_err(), Full::Total);
    assert_eq!((caps.live(), caps.origins(), caps.refused()), (3, 2, 1));
    held.clear();
    assert_eq!((caps.live(), caps.origins()), (0, 0));
}

#[test]
fn caps_shrink_to_what_the_descriptors_allow() {
    let config = config(&[], 1000, 800);
    assert_eq!(affordable(&config, 100_000), (1000, 800));
    assert_eq!(affordable(&config, 400), (300, 150));
    assert_eq!(affordable(&config, 0), (1, 1));
    assert_eq!(affordable(&config, u64::MAX), (1000, 800));
}

#[test]
fn an_unspecified_ipv6_address_serves_both_families_unless_ipv4_is_listed() {
    let all: Vec<SocketAddr> = ["[::]:1", "0.0.0.0:2", "[::]:2", "[::1]:1"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let only = |index: usize| only_v6(all[index], &all);
    assert_eq!((only(0), only(2), only(3)), (false, true, true));
}
