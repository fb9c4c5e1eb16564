/**
 * Text of a log, a database or a file, as it may be shown on a terminal: control characters, which steer it, and
 * bidirectional and other format characters, which show what is not there, are written out (`\\u{1b}`).
 */
export const printable = (text: string): string =>
  text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );

/**
 * JSON of one value, as it may be shown on a terminal or kept as a line: the same value, with those characters of its
 * strings as `\\uXXXX`, since JSON leaves all but U+0000 to U+001F as they are. Some readers end a line at U+0085,
 * U+2028 and U+2029, so that a caller who names such a thing could make one entry look like two.
 */
export const printableJson = (json: string): string =>
  PLAIN.test(json)
    ? json
    : json.replaceAll(/[[\p{C}\p{Zl}\p{Zp}]--[\n]]/gv, (character) =>
        Array.from({ length: character.length }, (_, at) => escaped(character.charCodeAt(at))).join(
          '',
        ),
      );

/** Of most JSON nothing has to be looked at twice. */
const PLAIN = /^[\n -~]*$/u;

const escaped = (unit: number): string => `\\u${unit.toString(16).padStart(4, '0')}`;
