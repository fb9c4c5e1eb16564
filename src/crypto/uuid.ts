/** UUIDs (RFC 9562): lower-case text, or 16 bytes. */
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether `text` is a UUID in the one form that we write. */
export const isUuid = (text: string): boolean => UUID.test(text);

const DASH = 0x2d;

/** Of a digit of `isUuid`: 0 to 9 are 0x30 on, a to f 0x61 on. */
const digit = (code: number): number => (code < 0x40 ? code - 0x30 : code - 0x57);

/** The 16 bytes; null for text that is no lower-case UUID. */
export const uuidBytes = (text: string): Uint8Array | null => {
  if (!isUuid(text)) return null;
  // By hand: every audited request has several, and text without dashes would be one more text.
  const bytes = Buffer.allocUnsafe(16);
  for (let at = 0, index = 0; index < text.length; index += 2) {
    if (text.charCodeAt(index) === DASH) index += 1;
    bytes[at] = (digit(text.charCodeAt(index)) << 4) | digit(text.charCodeAt(index + 1));
    at += 1;
  }
  return bytes;
};

/** The text of 16 bytes. */
export const uuidText = (bytes: Uint8Array): string => {
  const hex = Buffer.from(bytes).toString('hex');
  const [a, b, c] = [hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
  return `${hex.slice(0, 8)}-${a}-${b}-${c}-${hex.slice(20)}`;
};
