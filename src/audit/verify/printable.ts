/**
 * Text of a log, a database or a file, as it may be shown on a terminal: control characters, which steer it, and
 * bidirectional and other format characters, which show what is not there, are written out (`\\u{1b}`).
 */
export const printable = (text: string): string =>
  text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
