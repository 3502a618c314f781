use super::*;

/// Feeds bytes in pieces of a size: what was handed on, or the fault and what was handed on before it.
fn feed(bytes: &[u8], piece: usize) -> Result<Vec<u8>, (FramingFault, Vec<u8>)> {
    let (mut framing, mut from, mut to) = (Framing::new(), BytesMut::new(), BytesMut::new());
    for piece in bytes.chunks(piece) {
        from.extend_from_slice(piece);
        loop {
            match framing.advance(&mut from, &mut to) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => return Err((fault, to.to_vec())),
            }
        }
    }
    Ok(to.to_vec())
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("transfer-encoding: chunked\r\n", body)
}

#[test]
fn what_has_one_reading_is_handed_on_as_it_came() {
    let long = "x: y\r\n".repeat(MOST_HEADERS - 1);
    let cases: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n".to_vec(),
        b"GET /a?b=%00&c=d HTTP/1.0\r\n\r\n".to_vec(),
        b"GET http://a.example/b HTTP/1.1\r\nhost: [::1]:80\r\nx-empty:\r\nx-wide: \t v\xc3\xa4 \t\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        post("content-length: 3\r\n", "abc"),
        post("Content-Length:   0003  \r\n", "abc"),
        post("content-length: 0\r\n", ""),
        chunked("3\r\nabc\r\n0\r\n\r\n"),
        chunked("00A;name=value\r\n0123456789\r\n1;a\r\nx\r\n0\r\nx-sum: 1\r\nx-other: 2\r\n\r\n"),
        [post("content-length: 1\r\n", "\n"), chunked("1\r\n\r\r\n0\r\n\r\n"), post("", "")].concat(),
        post(&long, ""),
    ];
    for case in cases {
        for piece in [1, 2, 3, 7, case.len()] {
            let shown = String::from_utf8_lossy(&case);
            assert_eq!(feed(&case, piece).as_deref(), Ok(&*case), "{shown} in pieces of {piece}");
        }
    }
}

#[test]
fn empty_lines_before_a_request_are_overlooked_and_not_many() {
    let request = post("", "");
    assert_eq!(feed(&[b"\r\n".to_vec(), request.clone()].concat(), 64), Ok(request.clone()));
    assert!(feed(&[b"\r\n\r\n\r\n".to_vec(), request].concat(), 64).is_err());
}

#[test]
fn no_head_that_could_be_read_in_two_ways_is_handed_on() {
    let heads: &[(&str, &[u8])] = &[
        ("both lengths", b"content-length: 3\r\ntransfer-encoding: chunked\r\n"),
        ("both lengths, the other way", b"transfer-encoding: chunked\r\ncontent-length: 3\r\n"),
        ("two lengths", b"content-length: 3\r\ncontent-length: 4\r\n"),
        ("one length twice", b"content-length: 3\r\ncontent-length: 3\r\n"),
        ("a list of lengths", b"content-length: 3, 3\r\n"),
        ("a length with a sign", b"content-length: +3\r\n"),
        ("a negative length", b"content-length: -3\r\n"),
        ("a length in hexadecimal", b"content-length: 0x3\r\n"),
        ("a length in two words", b"content-length: 3 3\r\n"),
        ("an empty length", b"content-length:\r\n"),
        ("a length beyond measure", b"content-length: 99999999999999999999\r\n"),
        ("a coding that is not known", b"transfer-encoding: gzip\r\n"),
        ("chunked not alone", b"transfer-encoding: gzip, chunked\r\n"),
        ("chunked twice", b"transfer-encoding: chunked, chunked\r\n"),
        ("two codings", b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        ("chunked disguised", b"transfer-encoding: \x0bchunked\r\n"),
        ("chunked in quotes", b"transfer-encoding: \"chunked\"\r\n"),
        ("chunked with a parameter", b"transfer-encoding: chunked;a\r\n"),
        ("a space before the colon", b"content-length : 3\r\n"),
        ("a tab before the colon", b"transfer-encoding\t: chunked\r\n"),
        ("a folded line", b"x: a\r\n b\r\n"),
        ("a line folded with a tab", b"x: a\r\n\tb\r\n"),
        ("a folded first line", b" x: a\r\n"),
        ("a bare CR in a value", b"x: a\rb\r\n"),
        ("a bare CR before a field", b"x: a\rcontent-length: 3\r\n"),
        ("a bare LF", b"x: a\ncontent-length: 3\r\n"),
        ("two CRs", b"x: a\r\r\n"),
        ("a NUL", b"x: a\0b\r\n"),
        ("a control character", b"x: a\x01\r\n"),
        ("a delete character", b"x: a\x7f\r\n"),
        ("no colon", b"nonsense\r\n"),
        ("no name", b": a\r\n"),
        ("a name that is no token", b"x(y): a\r\n"),
        ("a wide name", b"x\xc3\xa4: a\r\n"),
        ("a second host", b"host: b\r\n"),
        ("a host with a path", b"x: y\r\nhost: a/b\r\n"),
    ];
    for (what, fields) in heads {
        let request = [b"POST /a HTTP/1.1\r\nhost: a\r\n", *fields, b"\r\nabc"].concat();
        for piece in [1, 5, request.len()] {
            let (fault, handed_on) = feed(&request, piece).expect_err(what);
            assert!(matches!(fault, Malformed(_)), "{what}: {fault}");
            assert!(handed_on.is_empty(), "{what} was handed on");
        }
    }
}

#[test]
fn no_first_line_but_http_1s_is_handed_on() {
    let lines: &[&[u8]] = &[
        b"GET / HTTP/1.2\r\n",
        b"GET / HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"GET / http/1.1\r\n",
        b"GET /\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET\t/\tHTTP/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET /\x01 HTTP/1.1\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n",
        b"G(T / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\n",
    ];
    for line in lines {
        let request = [*line, b"host: a\r\n\r\n"].concat();
        let shown = String::from_utf8_lossy(line);
        assert!(feed(&request, 1).is_err_and(|(_, handed_on)| handed_on.is_empty()), "{shown}");
    }
    for head in
        ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"]
    {
        assert!(feed(head.as_bytes(), 64).is_err(), "{head}");
    }
}

#[test]
fn no_chunk_that_could_be_read_in_two_ways_is_handed_on() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(300));
    let spread = format!("{}0\r\n\r\n", "1;eeeeeeee\r\na\r\n".repeat(40));
    let bodies: &[(&str, &str)] = &[
        ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("a space behind the size", "3 \r\nabc\r\n0\r\n\r\n"),
        ("a tab behind the size", "3\t\r\nabc\r\n0\r\n\r\n"),
        ("a space before an extension", "3 ;a=b\r\nabc\r\n0\r\n\r\n"),
        ("a space in an extension", "3;a b\r\nabc\r\n0\r\n\r\n"),
        ("a line break in an extension", "3;a\nabc\r\n0\r\n\r\n"),
        ("a bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("a long extension", &long),
        ("many short extensions", &spread),
        ("a size with a sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("a huge size", "fffffffff\r\nabc"),
        ("a size that overflows", "10000000000000003\r\nabc"),
        ("a size of many zeros", "0000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("a size that ends with LF", "3\nabc\r\n0\r\n\r\n"),
        ("a chunk that ends with LF", "3\r\nabc\n0\r\n\r\n"),
        ("a chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("a trailer with a bare LF", "0\r\nx: y\n\r\n"),
        ("a folded trailer", "0\r\nx: y\r\n z\r\n\r\n"),
        ("a length in the trailer", "0\r\ncontent-length: 3\r\n\r\n"),
        ("a coding in the trailer", "0\r\ntransfer-encoding: chunked\r\n\r\n"),
    ];
    for (what, body) in bodies {
        for piece in [1, 5, 1000] {
            let hidden = [chunked(body), b"GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()].concat();
            let (_, handed_on) = feed(&hidden, piece).expect_err(what);
            assert!(!String::from_utf8_lossy(&handed_on).contains("hidden"), "{what}");
        }
    }
}

#[test]
fn heads_and_trailers_are_bounded() {
    let many = post(&"x: y\r\n".repeat(MOST_HEADERS), "");
    let long = post(&format!("x: {}\r\n", "a".repeat(MOST_HEAD_BYTES)), "");
    let endless = format!("GET /{}", "a".repeat(2 * MOST_HEAD_BYTES)).into_bytes();
    let trailer = chunked(&format!("0\r\nx: {}\r\n\r\n", "a".repeat(MOST_TRAILER_BYTES)));
    for request in [many, long, endless, trailer] {
        assert_eq!(feed(&request, 512).unwrap_err().0, TooLarge);
    }
}

#[test]
fn how_bytes_arrive_changes_nothing() {
    // Every row of three of the pieces on which borders hang, behind a head that is one.
    let pieces = [
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "content-length: 2\r\n",
        "transfer-encoding: chunked\r\n",
        "\r\n",
        "ab",
        "2\r\nab\r\n",
        "0\r\n\r\n",
        ";e\r\n",
        " ",
        "\n",
        "\r",
        "0",
        ":",
    ];
    let heads = ["content-length: 2\r\n\r\n", "transfer-encoding: chunked\r\n\r\n", "\r\n", ""];
    let count = pieces.len();
    for (head, number) in heads.iter().flat_map(|head| (0..count.pow(3)).map(move |number| (head, number))) {
        let row = [number % count, number / count % count, number / count / count].map(|at| pieces[at]).concat();
        let bytes = format!("POST / HTTP/1.1\r\nhost: a\r\n{head}{row}").into_bytes();
        let whole = feed(&bytes, bytes.len());
        assert_eq!(feed(&bytes, 1), whole, "{:?}", String::from_utf8_lossy(&bytes));
    }
}
