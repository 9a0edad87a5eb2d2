// Instants in the reader's own time zone, and told apart where its clock shows the same time twice.

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const clock = new Intl.DateTimeFormat(undefined, CLOCK);
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", ...CLOCK });
const year = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", ...CLOCK });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const MINUTE = 60_000;
// Clocks are set by an hour, or two; within three hours both sides are seen.
const AROUND = 180 * MINUTE;

export function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const instant = new Date(time.dateTime);
    if (Number.isNaN(instant.getTime())) continue;
    time.textContent = text(instant);
    time.title = `${full.format(instant)}, ${instant.toISOString().replace("T", " ").replace("Z", " UTC")}`;
  }
}

// Changes when other dates or another offset have to be shown than before.
export function today() {
  return `${new Date().toDateString()} ${offset(new Date())}`;
}

// The days that are searched for are the reader's.
export function searchHere(root) {
  for (const input of root.querySelectorAll("input[name=zone]")) input.value = zoneName();
  for (const each of root.querySelectorAll("[data-zone]")) each.textContent = zoneName();
}

function zoneName() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

export function zone() {
  const name = zoneName();
  return name === "UTC" ? name : `${offset(new Date())} (${name})`;
}

function text(instant) {
  const now = new Date();
  const isToday = instant.toDateString() === now.toDateString();
  const isThisYear = instant.getFullYear() === now.getFullYear();
  const shown = (isToday ? clock : isThisYear ? day : year).format(instant);
  const isOther = instant.getTimezoneOffset() !== now.getTimezoneOffset();
  return isOther || comesTwice(instant) ? `${shown} ${offset(instant)}` : shown;
}

function offset(instant) {
  const minutes = -instant.getTimezoneOffset();
  if (!minutes) return "UTC";
  const hours = Math.floor(Math.abs(minutes) / 60);
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

// Whether the clock on the wall shows this time once more, before or after: when it is set back in autumn.
function comesTwice(instant) {
  const own = instant.getTimezoneOffset();
  return [-AROUND, AROUND].some((by) => {
    const other = new Date(instant.getTime() + by).getTimezoneOffset();
    const twin = new Date(instant.getTime() + (other - own) * MINUTE);
    return other !== own && twin.getTimezoneOffset() === other;
  });
}
