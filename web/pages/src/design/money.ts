/**
 * Amounts from whole minor units, through text and never through floats. How many decimals a currency has is said by ISO 4217,
 * as the server reads it; `Intl` follows what is customary instead (no fillér in a Hungarian price) and would be off by a hundred.
 */
const NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(" ");
const THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND".split(" ");
const FOUR_DECIMALS = "CLF UYW".split(" ");

export function decimals(currency: string): number {
  if (NO_DECIMALS.includes(currency)) return 0;
  if (THREE_DECIMALS.includes(currency)) return 3;
  return FOUR_DECIMALS.includes(currency) ? 4 : 2;
}

/** A plain decimal text for machines: -1250 EUR is "-12.50". */
export function decimalText(minor: number, currency: string): string {
  const places = decimals(currency);
  const digits = BigInt(Math.abs(minor)).toString().padStart(places + 1, "0");
  const sign = minor < 0 ? "-" : "";
  return places === 0 ? sign + digits : `${sign}${digits.slice(0, -places)}.${digits.slice(-places)}`;
}

const locale = (): string => globalThis.navigator?.language || "en";
const formats = new Map<string, Intl.NumberFormat>();

function format(currency: string, options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = currency + JSON.stringify(options);
  let found = formats.get(key);
  if (found === undefined) {
    found = new Intl.NumberFormat(locale(), { style: "currency", currency, ...options });
    formats.set(key, found);
  }
  return found;
}

/** For people, to the last minor unit: "€1,234.50". */
export function amount(minor: number, currency: string): string {
  const places = decimals(currency);
  // `format` takes decimal texts as they are; its type does not say so yet.
  return format(currency, { minimumFractionDigits: places, maximumFractionDigits: places }).format(decimalText(minor, currency) as unknown as number);
}

/** For people who compare magnitudes: "€62.05", "€62", and where there are many units whole ones or short: "€1,235", "€48.2K". */
export function roundAmount(minor: number, currency: string): string {
  const units = Math.abs(minor) / 10 ** decimals(currency);
  const places = units < 1_000 && !Number.isInteger(units) ? decimals(currency) : 0;
  const options: Intl.NumberFormatOptions =
    units < 100_000 ? { minimumFractionDigits: places, maximumFractionDigits: places } : { notation: "compact", maximumFractionDigits: 1 };
  return format(currency, options).format(decimalText(minor, currency) as unknown as number);
}
