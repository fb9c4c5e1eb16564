/**
 * The group that a TLS connection agreed its key by, as the server knows it.
 *
 * Node tells it to clients alone. It stands in the session that OpenSSL writes out
 * (`SSL_SESSION_ASN1` in ssl/ssl_asn1.c: `kex_group`, [19] EXPLICIT INTEGER): the value of `NamedGroup`
 * (RFC 8446 section 4.2.7), of this very handshake, also where it resumed a session of another group.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** Names of the registry of TLS Supported Groups (IANA), in Cedar's context and in audit entries. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x0017, 'secp256r1'],
  [0x0018, 'secp384r1'],
  [0x0019, 'secp521r1'],
  [0x001d, 'x25519'],
  [0x001e, 'x448'],
  [0x11eb, 'SecP256r1MLKEM768'],
  [0x11ec, 'X25519MLKEM768'],
  [0x11ed, 'SecP384r1MLKEM1024'],
]);

const SEQUENCE = 0x30;
const INTEGER = 0x02;
/** Context-specific, constructed, 19. */
const KEX_GROUP = 0xb3;

const known = new WeakMap<TLSSocket, string | null>();

/**
 * Of a connection whose handshake is over; null where it has none, or its session does not say it in a
 * form known here.
 */
export function tlsGroupOf(socket: Socket): string | null {
  if (!(socket instanceof TLSSocket)) return null;
  const remembered = known.get(socket);
  if (remembered !== undefined) return remembered;
  const session = socket.getSession();
  if (session === undefined) return null;
  try {
    const group = namedGroup(session);
    const name = group === null ? null : (NAMES.get(group) ?? numbered(group));
    known.set(socket, name);
    return name;
  } finally {
    // The session has its resumption secret in it.
    session.fill(0);
  }
}

/** A group without a name here is not taken for none: a policy that asks for a group then sees one. */
const numbered = (group: number): string => `0x${group.toString(16).padStart(4, '0')}`;

/** @param session DER of an `SSL_SESSION_ASN1` */
export function namedGroup(session: Uint8Array): number | null {
  const whole = element(session, 0);
  if (whole?.tag !== SEQUENCE) return null;
  for (let at = whole.from; at < whole.to;) {
    const member = element(session, at);
    if (member === null || member.to > whole.to) return null;
    if (member.tag === KEX_GROUP) return integerIn(session.subarray(member.from, member.to));
    at = member.to;
  }
  return null;
}

function integerIn(bytes: Uint8Array): number | null {
  const integer = element(bytes, 0);
  if (integer?.tag !== INTEGER || integer.to !== bytes.length) return null;
  const length = integer.to - integer.from;
  if (length < 1 || length > 3) return null;
  const value = bytes.subarray(integer.from).reduce((sum, byte) => sum * 256 + byte, 0);
  return value > 0 && value <= 0xffff ? value : null;
}

/** A DER element with a tag of one byte (X.690 section 8.1), by the bounds of its content; null: none. */
function element(bytes: Uint8Array, at: number) {
  const [tag, first] = bytes.subarray(at, at + 2);
  if (tag === undefined || first === undefined) return null;
  const octets = first < 0x80 ? 0 : first & 0x7f;
  if (first === 0x80 || octets > 3) return null;
  const from = at + 2 + octets;
  if (from > bytes.length) return null;
  const said = bytes.subarray(at + 2, from).reduce((sum, byte) => sum * 256 + byte, 0);
  const to = from + (first < 0x80 ? first : said);
  return to > bytes.length ? null : { tag, from, to };
}
