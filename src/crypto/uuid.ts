/** UUIDs (RFC 9562): lower-case text, or 16 bytes. */
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether `text` is a UUID in the one form that we write. */
export const isUuid = (text: string): boolean => UUID.test(text);

/** The 16 bytes; null for text that is no lower-case UUID. */
export const uuidBytes = (text: string): Uint8Array | null =>
  isUuid(text) ? Buffer.from(text.replaceAll('-', ''), 'hex') : null;

/** The text of 16 bytes. */
export const uuidText = (bytes: Uint8Array): string => {
  const hex = Buffer.from(bytes).toString('hex');
  const [a, b, c] = [hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
  return `${hex.slice(0, 8)}-${a}-${b}-${c}-${hex.slice(20)}`;
};
