//! Product catalogues as shops have them: CSV ([`table`]) and JSON ([`list`]), read row by row from any stream.
//!
//! A file is never refused for one bad row: each row is a [`Product`] or a [`Refused`] with a sentence that says what to
//! change. Memory is bounded by the largest row (1 MB) and the SKUs seen so far. Nothing here knows the database.
//!
//! A product without an SKU gets one that is the same in every import: `~` and the slug of its handle, with a variant
//! `~` and its slug (`~wool-hat~red-s`); without a handle the slug of its `id`, else of its title, stands in for it. A
//! slug keeps letters and digits in lower case and joins them with hyphens.

mod list;
mod source;
mod table;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::io::Read;

use sha2::{Digest, Sha256};

use self::list::List;
use self::source::Source;
use self::table::Table;
use crate::money::{AMOUNT_MAX_MINOR, BadAmount, Currency};
use crate::units::Units;

/// More than any real product; what is longer is a broken file, or somebody who wants our memory.
const ROW_MAX_BYTES: usize = 1 << 20;
const SKU_MAX_CHARS: usize = 128;
const NAME_MAX_CHARS: usize = 300;
const DESCRIPTION_MAX_CHARS: usize = 5_000;
const ON_HAND_MAX: i64 = Units::MAX.0;

const NOT_UTF8: &str = "is not UTF-8; save the file with the encoding UTF-8.";

/// What can be sold: one variant of a product, with all that its row and the first row of its handle say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// 1 to 128 visible characters, unique in its file; spaces may stand between them.
    pub sku: String,
    /// The same for all variants of a product.
    pub handle: String,
    pub title: String,
    /// The values of the options, like `Red / S`.
    pub variant: Option<String>,
    /// As the shop wrote it, HTML included; at most 5,000 characters.
    pub description: String,
    pub price_minor: i64,
    pub compare_at_minor: Option<i64>,
    pub currency: Currency,
    /// None if the catalogue does not say.
    pub on_hand: Option<i64>,
    /// An absolute http or https URL.
    pub image_url: Option<String>,
    /// The line on which the row begins.
    pub line: u64,
}

/// A row that is no product, or the reason why reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The line on which the row begins.
    pub line: u64,
    pub sku: Option<String>,
    /// A sentence that says what to change.
    pub reason: String,
    /// Nothing below this line was read, so the import is not complete.
    pub rest_unread: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Shopify's product CSV in both generations of its header.
    Csv,
    /// An array of objects, or an object with one as its member `products`, `items` or `data`.
    Json,
}

/// An iterator over the rows of a catalogue.
pub struct Catalogue<R> {
    rows: Rows<R>,
    /// The currency of rows that name none.
    currency: Option<Currency>,
    /// Every SKU so far with its line.
    seen: HashMap<String, u64>,
}

enum Rows<R> {
    Unopened(Source<R>, Option<Format>),
    Csv(Table<R>),
    Json(List<R>),
    Done,
}

impl<R: Read> Catalogue<R> {
    /// Reads `reader` as `format`, else as what its first bytes look like. Rows that name no currency are in `currency`.
    pub fn new(reader: R, format: Option<Format>, currency: Option<Currency>) -> Catalogue<R> {
        Catalogue { rows: Rows::Unopened(Source::new(reader), format), currency, seen: HashMap::new() }
    }

    fn next_row(&mut self) -> Option<Result<Product, Refused>> {
        if let Rows::Unopened(..) = self.rows
            && let Rows::Unopened(source, format) = std::mem::replace(&mut self.rows, Rows::Done)
        {
            match open(source, format) {
                Ok(rows) => self.rows = rows,
                Err(refused) => return Some(Err(refused)),
            }
        }
        let raw = match &mut self.rows {
            Rows::Csv(table) => table.next()?,
            Rows::Json(list) => list.next()?,
            Rows::Unopened(..) | Rows::Done => return None,
        };
        Some(raw.and_then(|it| self.admit(it)))
    }

    /// Checks a row that could be read, and remembers its SKU.
    fn admit(&mut self, raw: Raw) -> Result<Product, Refused> {
        let (line, sku) = (raw.line, raw.sku.clone());
        let refuse = |reason| Refused::row(line, sku, reason);
        let named = match raw.names() {
            Ok(named) => named,
            Err(reason) => return Err(refuse(reason)),
        };
        let refuse = |reason| Refused::row(line, Some(named.sku.clone()), reason);
        // A row that is refused below keeps its SKU all the same: which of the two was meant is not ours to guess.
        match self.seen.entry(named.sku.clone()) {
            Entry::Occupied(first) => {
                let reason = format!("The SKU stands already in line {}; give each product its own.", first.get());
                return Err(refuse(reason));
            }
            Entry::Vacant(free) => free.insert(line),
        };
        let figures = raw.figures(self.currency).map_err(refuse)?;
        Ok(Product {
            sku: named.sku,
            handle: named.handle,
            title: named.title,
            variant: named.variant,
            description: named.description,
            price_minor: figures.price_minor,
            compare_at_minor: figures.compare_at_minor,
            currency: figures.currency,
            on_hand: figures.on_hand,
            image_url: raw.variant_image.or(raw.image).and_then(|it| web_url(&it)),
            line,
        })
    }
}

impl<R: Read> Iterator for Catalogue<R> {
    type Item = Result<Product, Refused>;

    fn next(&mut self) -> Option<Result<Product, Refused>> {
        let row = self.next_row();
        if !matches!(&row, Some(Ok(_)) | Some(Err(Refused { rest_unread: false, .. }))) {
            self.rows = Rows::Done;
        }
        row
    }
}

/// Looks at the first bytes.
fn open<R: Read>(mut source: Source<R>, format: Option<Format>) -> Result<Rows<R>, Refused> {
    while source.window().len() < 4 && !source.is_complete() {
        source.extend()?;
    }
    // UTF-16 begins with a mark, or has zeroes where ASCII has none.
    let head = &source.window()[..source.window().len().min(4)];
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) || head.contains(&0) {
        return Err(Refused::rest(1, "The file is UTF-16 or no text; save it with the encoding UTF-8."));
    }
    if source.window().starts_with("\u{feff}".as_bytes()) {
        source.consume("\u{feff}".len());
    }
    if source.peek()?.is_none() {
        return Err(Refused::rest(1, "The file is empty."));
    }
    let first = source.window().iter().find(|it| !it.is_ascii_whitespace());
    let looks_like = if matches!(first, Some(b'[' | b'{')) { Format::Json } else { Format::Csv };
    match format.unwrap_or(looks_like) {
        Format::Csv => Ok(Rows::Csv(Table::new(source))),
        Format::Json => Ok(Rows::Json(List::new(source))),
    }
}

impl Refused {
    fn row(line: u64, sku: Option<String>, reason: impl Into<String>) -> Refused {
        // The text of a refused row may hold anything; what leaves here can be stored and shown.
        let sku = sku.map(|it| it.chars().filter(|it| is_visible(*it)).take(SKU_MAX_CHARS).collect());
        Refused { line, sku, reason: reason.into(), rest_unread: false }
    }

    fn rest(line: u64, reason: impl Into<String>) -> Refused {
        Refused { line, sku: None, reason: reason.into(), rest_unread: true }
    }
}

/// What a column of a CSV or a member of an object means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Sku,
    Id,
    Handle,
    Title,
    Variant,
    Description,
    Price,
    CompareAt,
    Currency,
    OnHand,
    Image,
    VariantImage,
}

impl Field {
    /// The names of both Shopify headers, of common JSON lists and of our own form; case, spaces and punctuation do not
    /// matter.
    fn of(name: &str) -> Option<Field> {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect();
        match name.as_str() {
            "sku" | "variantsku" => Some(Field::Sku),
            "id" => Some(Field::Id),
            "handle" | "urlhandle" | "slug" => Some(Field::Handle),
            "title" | "name" => Some(Field::Title),
            "variant" | "option1value" | "option2value" | "option3value" => Some(Field::Variant),
            "description" | "bodyhtml" => Some(Field::Description),
            "price" | "variantprice" => Some(Field::Price),
            "compareat" | "compareatprice" | "variantcompareatprice" => Some(Field::CompareAt),
            "currency" | "currencycode" => Some(Field::Currency),
            "onhand" | "stock" | "quantity" | "inventoryquantity" | "variantinventoryqty" => Some(Field::OnHand),
            "imageurl" | "image" | "imagesrc" | "productimageurl" | "thumbnail" => Some(Field::Image),
            "variantimage" | "variantimageurl" => Some(Field::VariantImage),
            _ => None,
        }
    }
}

/// A row as it stands in the file, whatever its format; a blank field is none.
#[derive(Default)]
struct Raw {
    line: u64,
    sku: Option<String>,
    id: Option<String>,
    handle: Option<String>,
    title: Option<String>,
    variant: Option<String>,
    description: Option<String>,
    price: Option<String>,
    compare_at: Option<String>,
    currency: Option<String>,
    on_hand: Option<String>,
    image: Option<String>,
    variant_image: Option<String>,
    /// What the format alone can see to be wrong.
    complaint: Option<String>,
}

struct Names {
    sku: String,
    handle: String,
    title: String,
    variant: Option<String>,
    description: String,
}

struct Figures {
    price_minor: i64,
    compare_at_minor: Option<i64>,
    currency: Currency,
    on_hand: Option<i64>,
}

impl Raw {
    fn new(line: u64) -> Raw {
        Raw { line, ..Raw::default() }
    }

    /// Takes a trimmed field. Of several with the same meaning the first that is not blank counts, but options add up.
    fn give(&mut self, field: Field, text: String) {
        let slot = match field {
            Field::Sku => &mut self.sku,
            Field::Id => &mut self.id,
            Field::Handle => &mut self.handle,
            Field::Title => &mut self.title,
            Field::Variant => &mut self.variant,
            Field::Description => &mut self.description,
            Field::Price => &mut self.price,
            Field::CompareAt => &mut self.compare_at,
            Field::Currency => &mut self.currency,
            Field::OnHand => &mut self.on_hand,
            Field::Image => &mut self.image,
            Field::VariantImage => &mut self.variant_image,
        };
        match slot {
            _ if text.is_empty() => {}
            None => *slot = Some(text),
            Some(options) if field == Field::Variant => {
                options.push_str(" / ");
                options.push_str(&text);
            }
            Some(_) => {}
        }
    }

    /// Refuses the row; the first complaint counts.
    fn complain(&mut self, reason: impl Into<String>) {
        self.complaint.get_or_insert_with(|| reason.into());
    }

    fn names(&self) -> Result<Names, String> {
        if let Some(complaint) = &self.complaint {
            return Err(complaint.clone());
        }
        let title = self.title.clone().ok_or("The title is missing; add it.")?;
        // What Shopify writes for a product without variants.
        let variant = self.variant.clone().filter(|it| it != "Default Title");
        let description = self.description.as_deref().unwrap_or_default();
        if description.contains('\0') {
            return Err("The description has a NUL character in it; remove it.".to_owned());
        }
        let named = [("title", Some(&title)), ("variant", variant.as_ref()), ("handle", self.handle.as_ref())];
        for (what, text) in named {
            text.map_or(Ok(()), |it| check_name(what, it))?;
        }
        let sku = match &self.sku {
            Some(given) => given.clone(),
            None => derived_sku(self.handle.as_ref().or(self.id.as_ref()).unwrap_or(&title), variant.as_deref())
                .ok_or("The SKU is missing, and nothing in the row can stand in for it; add it.")?,
        };
        check_sku(&sku)?;
        let handle = match &self.handle {
            Some(given) => given.clone(),
            None => Some(slug(&title)).filter(|it| !it.is_empty()).unwrap_or_else(|| sku.clone()),
        };
        let description = first_chars(description, DESCRIPTION_MAX_CHARS).to_owned();
        Ok(Names { sku, handle, title, variant, description })
    }

    fn figures(&self, default: Option<Currency>) -> Result<Figures, String> {
        let currency = match &self.currency {
            Some(code) => code.parse().map_err(|error| format!("The currency is {}; {error}.", quoted(code)))?,
            None => {
                default.ok_or("The currency is missing; add it to the row, or name one for the whole catalogue.")?
            }
        };
        let price = self.price.as_ref().ok_or("The price is missing; add it.")?;
        let price_minor = amount("price", price, currency)?;
        if price_minor == 0 {
            return Err("A price must be above zero; change it.".to_owned());
        }
        // Shops export zero for "never had another price".
        let compare_at = self.compare_at.as_ref().map(|it| amount("compare-at price", it, currency)).transpose()?;
        let on_hand = match &self.on_hand {
            None => None,
            Some(text) => Some(text.parse().ok().filter(|it| (0..=ON_HAND_MAX).contains(it)).ok_or_else(|| {
                format!("The quantity is {}; make it a whole number from 0 to {ON_HAND_MAX}.", quoted(text))
            })?),
        };
        Ok(Figures { price_minor, compare_at_minor: compare_at.filter(|it| *it > 0), currency, on_hand })
    }
}

/// Whether a text can name a product to people: as its title, its variant or its handle. The rule of files and of products
/// that are written one by one.
///
/// # Errors
/// A sentence that says what to change.
pub fn check_name(what: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("The {what} is missing; add it."));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("The {what} has a control character in it, such as a line break; remove it."));
    }
    if text.chars().nth(NAME_MAX_CHARS).is_some() {
        return Err(format!("The {what} is longer than {NAME_MAX_CHARS} characters; shorten it."));
    }
    Ok(())
}

/// Whether a text can be an SKU; see [`Product::sku`]. The rule of files and of products that are written one by one.
///
/// # Errors
/// A sentence that says what to change.
pub fn check_sku(sku: &str) -> Result<(), String> {
    let fits = (1..=SKU_MAX_CHARS).contains(&sku.chars().count()) && sku.trim() == sku;
    if !fits || !sku.chars().all(is_visible) {
        return Err(format!("The SKU must have 1 to {SKU_MAX_CHARS} visible characters; change it."));
    }
    Ok(())
}

fn amount(what: &str, text: &str, currency: Currency) -> Result<i64, String> {
    currency.parse_minor(text).map_err(|bad| {
        let advice = match bad {
            BadAmount::NotANumber => "write a plain decimal number such as 12.50".to_owned(),
            BadAmount::TooFine => format!("{currency} has {} decimals", currency.decimals()),
            BadAmount::TooLarge => format!("the largest is {} {currency}", currency.format_minor(AMOUNT_MAX_MINOR)),
        };
        format!("The {what} is {}; {advice}.", quoted(text))
    })
}

/// The SKU of a product that has none, see the top of this file.
fn derived_sku(product: &str, variant: Option<&str>) -> Option<String> {
    let mut sku = format!("~{}", slug(product));
    if sku.len() == 1 {
        return None;
    }
    if let Some(variant) = variant {
        sku.push('~');
        sku.push_str(&slug(variant));
    }
    if sku.chars().nth(SKU_MAX_CHARS).is_none() {
        return Some(sku);
    }
    // Too long: what is cut off lives on in 16 digits of a hash.
    let mut cut = format!("{}~", first_chars(&sku, SKU_MAX_CHARS - 17));
    for byte in &Sha256::digest(sku.as_bytes())[..8] {
        write!(cut, "{byte:02x}").expect("writing to a string cannot fail");
    }
    Some(cut)
}

fn slug(text: &str) -> String {
    let words = text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

/// Control characters and those without a width would make two SKUs that look the same. The plain space is fine between
/// others, and shops use it.
fn is_visible(it: char) -> bool {
    let hidden = matches!(it, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    it == ' ' || !(it.is_control() || it.is_whitespace() || hidden)
}

/// The URL as browsers write it; none if it is not absolute http or https, so that no script hides in it.
fn web_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok().filter(|it| matches!(it.scheme(), "http" | "https"))?;
    Some(url.into())
}

fn first_chars(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

/// A field of the file for a sentence: short, and with its control characters shown.
fn quoted(text: &str) -> String {
    format!("{:?}", first_chars(text, 40))
}

#[cfg(test)]
mod tests;
