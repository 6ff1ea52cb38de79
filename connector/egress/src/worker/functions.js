// The functions that a proxy auto-configuration script may call, as Netscape described them in 1996.
// The host provides: __resolve(name) -> "a.b.c.d" or null, __mine() -> "a.b.c.d".
"use strict";

function isPlainHostName(host) {
  return String(host).indexOf(".") < 0;
}

function dnsDomainIs(host, domain) {
  return String(host).toLowerCase().endsWith(String(domain).toLowerCase());
}

function localHostOrDomainIs(host, hostdom) {
  const short = String(host).toLowerCase();
  const long = String(hostdom).toLowerCase();
  return short === long || (isPlainHostName(short) && long.startsWith(short + "."));
}

function isResolvable(host) {
  return dnsResolve(host) !== null;
}

function dnsResolve(host) {
  return __resolve(String(host)) ?? null;
}

function myIpAddress() {
  return __mine();
}

function dnsDomainLevels(host) {
  return String(host).split(".").length - 1;
}

function convert_addr(text) {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(String(text));
  if (parts === null) return null;
  let value = 0;
  for (const part of parts.slice(1)) {
    if (Number(part) > 255) return null;
    value = value * 256 + Number(part);
  }
  return value;
}

function isInNet(host, pattern, mask) {
  const address = convert_addr(host) === null ? dnsResolve(host) : host;
  const [a, p, m] = [convert_addr(address), convert_addr(pattern), convert_addr(mask)];
  if (a === null || p === null || m === null) return false;
  return ((a & m) >>> 0) === ((p & m) >>> 0);
}

// `*` and `?` only. Two pointers instead of a regular expression: no pattern makes it slow.
function shExpMatch(text, pattern) {
  const s = String(text), p = String(pattern);
  let i = 0, j = 0, star = -1, mark = 0;
  while (i < s.length) {
    if (j < p.length && p[j] === "*") {
      star = j++;
      mark = i;
    } else if (j < p.length && (p[j] === "?" || p[j] === s[i])) {
      i++;
      j++;
    } else if (star >= 0) {
      j = star + 1;
      i = ++mark;
    } else {
      return false;
    }
  }
  while (j < p.length && p[j] === "*") j++;
  return j === p.length;
}

const { __clock, __between } = (() => {
  // The last argument "GMT" says which clock counts.
  function clock(args) {
    const gmt = args.length > 0 && args[args.length - 1] === "GMT";
    const list = gmt ? args.slice(0, -1) : args.slice();
    const now = new Date(), get = (name) => now[(gmt ? "getUTC" : "get") + name]();
    return { list, get };
  }
  // Ranges may run over the end: FRI to MON, 22 to 6.
  function between(from, now, to) {
    return from <= to ? from <= now && now <= to : now >= from || now <= to;
  }
  return { __clock: clock, __between: between };
})();

function weekdayRange(...args) {
  const names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
  const { list, get } = __clock(args);
  const days = list.map((name) => names.indexOf(String(name).toUpperCase()));
  if (days.length < 1 || days.length > 2 || days.includes(-1)) return false;
  return __between(days[0], get("Day"), days[days.length - 1]);
}

function dateRange(...args) {
  const names = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
  const { list, get } = __clock(args);
  const kind = (arg) => (typeof arg === "string" ? "m" : arg > 31 ? "y" : "d");
  const value = (arg) => (typeof arg === "string" ? names.indexOf(arg.toUpperCase()) : arg);
  const now = { d: get("Date"), m: get("Month"), y: get("FullYear") };
  if (list.length === 0 || list.length > 6 || list.some((arg) => value(arg) === -1)) return false;
  if (list.length === 1) return now[kind(list[0])] === value(list[0]);
  if (list.length % 2 !== 0) return false;
  const half = list.length / 2;
  const [from, to] = [list.slice(0, half), list.slice(half)];
  if (from.some((arg, at) => kind(arg) !== kind(to[at]))) return false;
  // Compared from the largest unit to the smallest; only units that are named count.
  const order = ["y", "m", "d"].filter((unit) => from.some((arg) => kind(arg) === unit));
  const number = (pick) => order.reduce((sum, unit) => sum * 10000 + pick(unit), 0);
  const of = (side) => (unit) => value(side[side.findIndex((arg) => kind(arg) === unit)]);
  return __between(number(of(from)), number((unit) => now[unit]), number(of(to)));
}

function timeRange(...args) {
  const { list, get } = __clock(args);
  if (list.some((arg) => typeof arg !== "number")) return false;
  const second = get("Hours") * 3600 + get("Minutes") * 60 + get("Seconds");
  const at = (hour, minute, seconds) => hour * 3600 + minute * 60 + seconds;
  switch (list.length) {
    case 1:
      return get("Hours") === list[0];
    case 2:
      return __between(at(list[0], 0, 0), second, at(list[1], 0, 0));
    case 4:
      return __between(at(list[0], list[1], 0), second, at(list[2], list[3], 0));
    case 6:
      return __between(at(list[0], list[1], list[2]), second, at(list[3], list[4], list[5]));
    default:
      return false;
  }
}

function alert() {}
