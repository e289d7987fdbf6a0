//! The rules of catalogues, on small files of our own invention.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;

fn eur() -> Currency {
    "EUR".parse().unwrap()
}

fn read_bytes(bytes: &[u8]) -> Vec<Result<Product, Refused>> {
    Catalogue::new(bytes, None, Some(eur())).collect()
}

fn read(text: &str) -> Vec<Result<Product, Refused>> {
    let whole = read_bytes(text.as_bytes());
    let in_bits: Vec<_> = Catalogue::new(Trickle(text.as_bytes()), None, Some(eur())).collect();
    assert_eq!(whole, in_bits, "what the reader delivers at once must not matter");
    whole
}

/// Delivers one byte at a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

/// `sku price` of what was read, `line! reason` of what was refused.
fn told(rows: &[Result<Product, Refused>]) -> Vec<String> {
    let tell = |row: &Result<Product, Refused>| match row {
        Ok(it) => format!("{} {}", it.sku, it.price_minor),
        Err(it) => format!("{}{} {}", it.line, if it.rest_unread { "!!" } else { "!" }, it.reason),
    };
    rows.iter().map(tell).collect()
}

/// Each row as told must begin with what is expected of it.
#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    let told = told(&read(text));
    let fits = told.len() == expected.len() && told.iter().zip(expected).all(|(it, begin)| it.starts_with(begin));
    assert!(fits, "{text:?}\nwas read as {told:#?}\nexpected {expected:#?}");
}

const LEGACY: &str = "\u{feff}Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,\
    Option2 Name,Option2 Value,Variant SKU,Variant Inventory Qty,Variant Price,Variant Compare At Price,Image Src,\
    Image Position,Variant Image,Status\r\n";

#[test]
fn the_older_shopify_header_is_read_with_variants_and_images() {
    let text = format!(
        "{LEGACY}\
        wool-hat,Wool Hat,\"<p>Warm,\r\nand \"\"itchy\"\"</p>\",Us,Hat,,TRUE,Colour,Red,Size,S,H-R-S,5,24.90,30,\
        https://img.example/hat.jpg,1,,active\r\n\
        wool-hat,,,,,,,,Blue,,M,H-B-M,-2,25.00,0.00,,,https://img.example/blue hat.jpg,\r\n\
        wool-hat,,,,,,,,,,,,,,,https://img.example/side.jpg,2,,\r\n\
        mug,Mug,,Us,,,TRUE,Title,Default Title,,,,,8,,javascript:alert(1),1,,draft\r\n"
    );
    let hat = Product {
        sku: "H-R-S".into(),
        handle: "wool-hat".into(),
        title: "Wool Hat".into(),
        variant: Some("Red / S".into()),
        description: "<p>Warm,\r\nand \"itchy\"</p>".into(),
        price_minor: 2_490,
        compare_at_minor: Some(3_000),
        currency: eur(),
        on_hand: Some(5),
        image_url: Some("https://img.example/hat.jpg".into()),
        line: 2,
    };
    let blue = Product {
        sku: "H-B-M".into(),
        variant: Some("Blue / M".into()),
        price_minor: 2_500,
        compare_at_minor: None,
        on_hand: Some(0),
        image_url: Some("https://img.example/blue%20hat.jpg".into()),
        line: 4,
        ..hat.clone()
    };
    let mug = Product {
        sku: "~mug".into(),
        handle: "mug".into(),
        title: "Mug".into(),
        variant: None,
        description: String::new(),
        price_minor: 800,
        compare_at_minor: None,
        currency: eur(),
        on_hand: None,
        image_url: None,
        line: 6,
    };
    assert_eq!(read(&text), [Ok(hat), Ok(blue), Ok(mug)]);
}

#[test]
fn the_current_shopify_header_is_read() {
    let text = "Title,URL handle,Description,Vendor,Status,SKU,Option1 name,Option1 value,Price,Price / International,\
        Compare-at price,Inventory quantity,Product image URL,Image position,Variant image URL\n\
        Lamp,desk-lamp,Bright,Us,Active,L-1,Colour,White,39.50,44,49.50,7,https://img.example/l.png,1,\n\
        ,desk-lamp,,,,,,Black,39.50,44,,,,,\n";
    let rows = read(text);
    assert_eq!(told(&rows), ["L-1 3950", "~desk-lamp~black 3950"]);
    let black = rows[1].as_ref().unwrap();
    assert_eq!((black.title.as_str(), black.description.as_str(), black.on_hand), ("Lamp", "Bright", None));
    assert_eq!((black.variant.as_deref(), black.line), (Some("Black"), 3));
    assert_eq!(rows[0].as_ref().unwrap().compare_at_minor, Some(4_950));
}

#[test]
fn a_variant_needs_the_first_row_of_its_handle_directly_above() {
    expect(
        "Handle,Title,Option1 Value,Variant Price\n\
         a,A,x,1\n\
         b,B,x,\n\
         b,,y,2\n\
         a,,y,1\n\
         a,,,\n\
         ,,,5\n",
        &["~a~x 100", "3! The price is missing", "~b~y 200", "5! The title is missing", "7! The title is missing"],
    );
}

#[test]
fn json_lists_are_read_in_their_many_shapes() {
    let own = r#"[{"sku":"A-1","title":"Tea","price":"12.50","currency":"USD","on_hand":5,"variant":"Green"}]"#;
    let tea = read(own).remove(0).unwrap();
    assert_eq!((tea.sku.as_str(), tea.price_minor, tea.currency.as_str()), ("A-1", 1_250, "USD"));
    assert_eq!((tea.on_hand, tea.variant.as_deref(), tea.handle.as_str()), (Some(5), Some("Green"), "tea"));

    let capitals = r#"[ { "Id": 17, "Type": "Bags", "Brand": "Nobody", "Name": "Trail Pack", "Price": 109.9 } ]"#;
    expect(capitals, &["~17 10990"]);

    let rich = "{\"total\": 2, \"meta\": {\"products\": [1]}, \"products\": [\r\n\
        {\"id\":1,\"title\":\"Soap\",\"price\":9.99,\"stock\":0,\"sku\":\"S-1\",\"tags\":[\"]\",\"}\\\"\"],\r\n\
        \"dimensions\":{\"width\":1.5},\"images\":[\"https://img.example/1\"],\"thumbnail\":\"https://img.example/t\"},\r\n\
        {\"id\":2,\"title\":\"Br\\u00fcsh\",\"price\":10.10,\"image\":{\"src\":\"x\"}}], \"skip\": 0}\n";
    let rows = read(rich);
    assert_eq!(told(&rows), ["S-1 999", "~2 1010"]);
    let (soap, brush) = (rows[0].as_ref().unwrap(), rows[1].as_ref().unwrap());
    assert_eq!((soap.line, soap.on_hand, soap.image_url.as_deref()), (2, Some(0), Some("https://img.example/t")));
    assert_eq!((brush.line, brush.title.as_str(), brush.image_url.as_deref()), (4, "Brüsh", None));

    for empty in ["[]", " [ ] ", "{\"items\":[]}", "\u{feff}{\"a\":1,\"DATA\":[],\"b\":{}}"] {
        expect(empty, &[]);
    }
}

#[test]
fn prices_keep_the_text_of_the_file() {
    let row = |price: &str| format!("[{{\"sku\":\"A\",\"title\":\"A\",\"price\":{price}}}]");
    for (price, expected) in [
        ("0.07", "A 7"),
        ("1.10", "A 110"),
        ("1.100", "A 110"),
        ("1000000000", "A 100000000000"),
        ("\" 4.5 \"", "A 450"),
        ("9.999", "1! The price is \"9.999\"; EUR has 2 decimals."),
        ("1000000000.01", "1! The price is \"1000000000.01\"; the largest is 1000000000.00 EUR."),
        ("1e2", "1! The price is \"1e2\"; write a plain decimal number"),
        ("-1", "1! The price is \"-1\"; write a plain decimal number"),
        ("\"12,50\"", "1! The price is \"12,50\"; write a plain decimal number"),
        ("0.00", "1! A price must be above zero"),
        ("null", "1! The price is missing"),
        ("true", "1! The member \"price\" is neither a text nor a number"),
        ("[1]", "1! The member \"price\" is neither a text nor a number"),
    ] {
        expect(&row(price), &[expected]);
    }
}

#[test]
fn every_field_has_its_limits() {
    let row = |members: &str| format!("[{{{members}}}]");
    let x = |count: usize| "x".repeat(count);
    for (members, expected) in [
        (r#""price":1"#.to_owned(), "1! The title is missing"),
        (format!(r#""price":1,"title":"{}""#, "é".repeat(301)), "1! The title is longer than 300"),
        (format!(r#""price":1,"sku":"A","title":"{}""#, "é".repeat(300)), "A 100"),
        (r#""price":1,"title":"a\nb""#.to_owned(), "1! The title has a control character"),
        (r#""price":1,"title":"a","description":"\u0000""#.to_owned(), "1! The description has a NUL"),
        (format!(r#""price":1,"title":"a","sku":"{}""#, x(128)), &format!("{} 100", x(128))),
        (format!(r#""price":1,"title":"a","sku":"{}""#, x(129)), "1! The SKU must have 1 to 128"),
        (r#""price":1,"title":"a","sku":"A 1""#.to_owned(), "A 1 100"),
        (r#""price":1,"title":"a","sku":"A\u200b1""#.to_owned(), "1! The SKU must have 1 to 128 visible"),
        (r#""price":1,"title":"!?""#.to_owned(), "1! The SKU is missing"),
        (r#""price":1,"title":"a","on_hand":1000000000"#.to_owned(), "~a 100"),
        (r#""price":1,"title":"a","on_hand":1000000001"#.to_owned(), "1! The quantity is \"1000000001\""),
        (r#""price":1,"title":"a","on_hand":-1"#.to_owned(), "1! The quantity is \"-1\""),
        (r#""price":1,"title":"a","on_hand":1.5"#.to_owned(), "1! The quantity is \"1.5\""),
        (r#""price":1,"title":"a","currency":"eur""#.to_owned(), "1! The currency is \"eur\"; expected an ISO 4217"),
        (r#""price":1,"title":"a","compare_at_price":"x""#.to_owned(), "1! The compare-at price is \"x\""),
    ] {
        expect(&row(&members), &[expected]);
    }
    let long = read(&row(&format!(r#""price":1,"title":"a","description":"{}""#, "é".repeat(5_001))));
    assert_eq!(long[0].as_ref().unwrap().description, "é".repeat(5_000));
    let refused = read(&row(r#""price":0,"title":"a","sku":"A-7""#)).remove(0).unwrap_err();
    assert_eq!(refused.sku.as_deref(), Some("A-7"));
    let hidden = read(&row(r#""price":1,"title":"a","sku":"A\u0000-8""#)).remove(0).unwrap_err();
    assert_eq!(hidden.sku.as_deref(), Some("A-8"), "a refused row can be stored and shown");
}

#[test]
fn a_row_without_a_currency_needs_one_from_outside() {
    let text = "title,price,currency\na,500,JPY\nb,5,\n";
    let rows: Vec<_> = Catalogue::new(text.as_bytes(), None, None).collect();
    assert_eq!(told(&rows)[0], "~a 500");
    assert!(told(&rows)[1].starts_with("3! The currency is missing"), "{rows:?}");
}

#[test]
fn derived_skus_stay_the_same() {
    let sku = |product: &str, variant: Option<&str>| derived_sku(product, variant).unwrap();
    assert_eq!(sku("Wool Hat", Some("Red / S")), "~wool-hat~red-s");
    assert_eq!(sku("Öl & Essig", None), "~öl-essig");
    assert_eq!(derived_sku("...", Some("Red")), None);
    let (one, other) = (sku(&format!("{}1", "x".repeat(200)), None), sku(&format!("{}2", "x".repeat(200)), None));
    assert_eq!(one.chars().count(), SKU_MAX_CHARS);
    assert_eq!(one, format!("~{}~{}", "x".repeat(110), "76b0171cf3eaf552"));
    assert_ne!(one, other);
}

#[test]
fn the_later_of_two_rows_with_one_sku_is_refused() {
    expect(
        "sku,title,price\nA,One,1\nB,Two,bad\nA,Three,3\nB,Four,4\n,Five,5\n~five,Six,6\na,Seven,7\n",
        &[
            "A 100",
            "3! The price",
            "4! The SKU stands already in line 2",
            "5! The SKU stands already in line 3",
            "~five 500",
            "7! The SKU stands already in line 6",
            "a 700",
        ],
    );
}

#[test]
fn a_broken_quote_costs_its_own_row() {
    let header = "sku,title,price\n";
    for (rows, expected) in [
        // Never closed: the next field that opens with a quote shows it.
        (
            "A,\"One,1\nB,\"Two\",2\nC,Three,3\n",
            &["2! A field that opens with a quote in line 2", "B 200", "C 300"][..],
        ),
        // Never closed, and no other quote in the file.
        ("A,One,1\nB,\"Two,2\nC,Three,3\n", &["A 100", "3! The quote that opens in line 3 is not closed", "C 300"]),
        // A quote inside a quoted field that is not written twice.
        ("A,\"5\" nail\",1\nB,Two,2", &["2! A field that opens with a quote in line 2", "B 200"]),
        // Inside a field without quotes it is a character like others.
        ("A,5\" nail,1\n", &["A 100"]),
        // The lines of a good field before the bad one are not read again.
        ("\"A\nB\",\"Two,2\nC,Three,3\n", &["2! The quote that opens in line 3 is not closed", "C 300"]),
    ] {
        expect(&format!("{header}{rows}"), expected);
    }
    let many = format!("{header}A,\"One,1\n{}B,\"Two\",2\n", "\n".repeat(2_000));
    expect(&many, &["2! The quote that opens in line 2 is not closed", "B 200"]);
}

#[test]
fn rows_that_do_not_fit_the_header_are_refused() {
    expect(
        "sku,title,price\n\nA,One\nB,Tw,o,2\n,,\nC,Three,3,,\n  \nD,Four,4",
        &["3! The row has 2 columns and the header 3", "4! The row has 4 columns", "C 300", "D 400"],
    );
    for line_end in ["\n", "\r\n", "\r"] {
        let text = "sku,title,price\n\"A\",\"O\nne\",1\nB,Two\n".replace('\n', line_end);
        assert!(told(&read(&text))[1].starts_with("4! The row has 2"), "{text:?}");
    }
    let endless = format!("sku,title,price\nA,{},1\nB,Two,2\n", "x".repeat(3 * ROW_MAX_BYTES));
    assert_eq!(told(&read_bytes(endless.as_bytes())), ["2! The row is longer than 1 MB; shorten it.", "B 200"]);
}

#[test]
fn files_that_can_not_be_read_are_refused_once() {
    for (text, expected) in [
        ("", "1!! The file is empty."),
        ("\u{feff}", "1!! The file is empty."),
        ("\n \n", "1!! The file is empty."),
        ("sku,Variant Price\nA,1\n", "1!! The header has no column Title; add it."),
        ("sku,Title\nA,1\n", "1!! The header has no column Price (or Variant Price); add it."),
        ("sku;title;price\nA;One;1\n", "1!! The header has no column Title and no column Price"),
        ("\"title,price\na,1\n", "1!! The quote that opens in line 1 is not closed"),
        ("\n\nsku,Title\nA,1\n", "3!! The header has no column Price"),
        ("{\"shop\":[]}", "1!! The file has no list of products"),
        ("{\"data\":{\"products\":[]}}", "1!! The file has no list of products"),
    ] {
        expect(text, &[expected]);
    }
    let hint = told(&read("sku;title;price\n")).remove(0);
    assert!(hint.ends_with("not with semicolons or tabs."), "{hint}");
}

#[test]
fn the_encoding_is_utf8() {
    let utf16: Vec<u8> = "title,price\na,1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &utf16].concat();
    for file in [&utf16[..], &marked, &[0xfe, 0xff, 0, b't']] {
        assert_eq!(told(&read_bytes(file)), ["1!! The file is UTF-16 or no text; save it with the encoding UTF-8."]);
    }
    let latin1 = b"title,price\nCaf\xe9,1\nTea,2\n";
    assert_eq!(
        told(&read_bytes(latin1)),
        ["2! The row is not UTF-8; save the file with the encoding UTF-8.", "~tea 200"]
    );
    let latin1 = b"[{\"title\":\"Caf\xe9\",\"price\":1},\n{\"title\":\"Tea\",\"price\":2}]";
    assert_eq!(
        told(&read_bytes(latin1)),
        ["1! The product is not UTF-8; save the file with the encoding UTF-8.", "~tea 200"]
    );
    assert!(told(&read_bytes(b"Pr\xe9cis,price\n"))[0].starts_with("1!! The header is not UTF-8"));
}

#[test]
fn malformed_json_ends_the_reading_but_not_what_was_read() {
    let good = r#"{"title":"A","price":1}"#;
    for (rest, expected) in [
        ("", "1!! The JSON is malformed here: expected a comma or the end of the list"),
        (",", "1!! The JSON is malformed here: the file ends in the middle"),
        (",]", "1!! The JSON is malformed here: expected a value"),
        ("\n{}]", "2!! The JSON is malformed here: expected a comma"),
        (",\n{\"title\":\n\"B,\n\"price\":1}]", "3!! The JSON is malformed here: a text is not closed on its line"),
        (",\n{\"title\":\"B\",\n\"price\":1,}]", "3!! The JSON is malformed here: trailing comma"),
        (",\n{\"title\":\"B\"", "2!! The JSON is malformed here: the file ends in the middle of a value"),
        (",\n{\"title\":[}]", "2!! The JSON is malformed here"),
        ("] x", "1!! The JSON is malformed here: expected nothing more"),
    ] {
        expect(&format!("[{good}{rest}"), &["~a 100", expected]);
    }
    for (rest, expected) in [
        ("]", "1!! The JSON is malformed here: expected a comma or the end of the object"),
        ("], \"next\": nul}", "1!! The JSON is malformed here"),
        ("],\n\"items\": []}", "2!! The file has a second list of products"),
    ] {
        expect(&format!("{{\"products\":[{good}{rest}"), &["~a 100", expected]);
    }
    expect(
        &format!("[1,\"x\",[{good}],null,\n{good}]"),
        &["1! The list", "1! The list", "1! The list", "1! The list", "~a"],
    );
}

#[test]
fn an_element_that_is_too_large_is_passed_over() {
    let big = format!("[{{\"sku\":\"{}\"}},\n{{\"title\":\"B\",\"price\":1}}]", "x".repeat(3 * ROW_MAX_BYTES));
    assert_eq!(told(&read_bytes(big.as_bytes())), ["1! The product takes more than 1 MB; shorten it.", "~b 100"]);
}

#[test]
fn a_declared_format_is_not_guessed() {
    let told = |text: &str, format| {
        let rows: Vec<_> = Catalogue::new(text.as_bytes(), Some(format), Some(eur())).collect();
        told(&rows).remove(0)
    };
    assert!(told("title,price\n", Format::Json).starts_with("1!! The JSON is malformed here"));
    assert!(told("[]", Format::Csv).starts_with("1!! The header has no column Title"));
}

#[test]
fn a_reader_that_fails_leaves_the_rest_unread() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the connection was reset"))
        }
    }
    let rows: Vec<_> = Catalogue::new(b"title,price\na,1\nb,".chain(Broken), None, Some(eur())).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(told(&rows)[0], "~a 100");
    assert!(told(&rows)[1].starts_with("3!! The file could not be read beyond this line (the connection was reset)"));
}

#[test]
fn a_hundred_thousand_rows_are_read_as_a_stream() {
    /// Writes the rows while they are read, so that the file is nowhere as a whole.
    struct Rows {
        next: u64,
        pending: io::Cursor<Vec<u8>>,
    }
    impl Read for Rows {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.pending.read(buffer)?;
            if count > 0 || self.next == 100_000 {
                return Ok(count);
            }
            self.next += 1;
            self.pending = io::Cursor::new(format!("SKU-{0},\"Thing, {0}\",{0}.50\n", self.next).into_bytes());
            self.pending.read(buffer)
        }
    }
    let rows = Rows { next: 0, pending: io::Cursor::new(b"sku,title,price\n".to_vec()) };
    let sum: i64 = Catalogue::new(rows, None, Some(eur())).map(|it| it.unwrap().price_minor).sum();
    assert_eq!(sum, 100 * (100_000 * 100_001 / 2) + 50 * 100_000);

    let json: String = (0..100_000).map(|it| format!(",\n{{\"id\":{it},\"title\":\"T\",\"price\":1.5}}")).collect();
    let json = format!("[{}]", &json[1..]);
    let lines: Vec<u64> = Catalogue::new(json.as_bytes(), None, Some(eur())).map(|it| it.unwrap().line).collect();
    assert_eq!(lines, (2..100_002).collect::<Vec<u64>>());
}

proptest! {
    /// What another writer quotes, we read as it was, in whatever portions it comes.
    #[test]
    fn quoting_survives(titles in prop::collection::vec("[a-z\",; \u{e9}]{0,8}", 1..8), bodies in "[a-z\",\r\n ]{0,30}") {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["sku", "description", "title", "price"]).unwrap();
        for (at, title) in titles.iter().enumerate() {
            writer.write_record([&format!("S{at}"), &bodies, &format!("t{title}t"), "1"]).unwrap();
        }
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let rows = read(&text);
        prop_assert_eq!(rows.len(), titles.len());
        for (row, title) in rows.into_iter().zip(titles) {
            let row = row.unwrap();
            prop_assert_eq!(row.title, format!("t{title}t"));
            prop_assert_eq!(row.description.as_str(), bodies.trim());
        }
    }

    /// No file, however broken, stops the program or is read without an end.
    #[test]
    fn any_bytes_are_read_to_an_end(
        start in prop::sample::select(vec!["", "title,price\n", "[", "{\"items\":["]),
        bytes in prop::collection::vec(prop::sample::select(b"\"\",\n\r{}[]:\\1a \xe9".to_vec()), 0..60),
    ) {
        let file = [start.as_bytes(), &bytes].concat();
        let rows = read_bytes(&file);
        prop_assert!(rows.len() <= file.len() + 1);
        let in_bits: Vec<_> = Catalogue::new(Trickle(&file), None, Some(eur())).collect();
        prop_assert_eq!(rows, in_bits);
    }
}
