// Keeps a page live: hints come as server-sent events, the page asks for its own fragment and takes over what differs.
"use strict";
(() => {
  const live = document.getElementById("live");
  const log = document.getElementById("log");
  const link = document.getElementById("link");
  const mostLines = 20000;

  const address = (extra) => {
    const url = new URL(location.href);
    url.hash = "";
    for (const [name, value] of Object.entries(extra)) url.searchParams.set(name, value);
    return url;
  };

  const fragment = async (extra) => {
    const answer = await fetch(address(extra), { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = document.createElement("template");
    page.innerHTML = await answer.text();
    return page.content;
  };

  const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;

  // Changes `old` into `fresh` in place, so that focus, selection and scrolling survive.
  const morph = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
      old.replaceWith(fresh.cloneNode(true));
    } else if (!isElement(old)) {
      old.nodeValue = fresh.nodeValue;
    } else {
      // Whether a fold is open is the reader's own choice.
      const own = (name) => name === "open" && old.nodeName === "DETAILS";
      for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !own(name)) old.removeAttribute(name);
      for (const { name, value } of fresh.attributes) {
        if (old.getAttribute(name) !== value && !own(name)) old.setAttribute(name, value);
      }
      morphChildren(old, fresh);
    }
  };

  const morphChildren = (old, fresh) => {
    const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    const kept = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
    let here = old.firstChild;
    const drop = () => {
      const next = here.nextSibling;
      here.remove();
      here = next;
    };
    for (const child of fresh.childNodes) {
      const same = child.id ? named.get(child.id) : null;
      // What stands between goes first: a node that is moved would lose its focus.
      while (same && here && here !== same && !kept.has(here.id)) drop();
      if (same && same !== here) old.insertBefore(same, here);
      // The page's own white space is not quite the fragment's: an element must not be taken for some.
      while (!same && here && isElement(child) && !isElement(here)) drop();
      const match = same || (here && isElement(here) === isElement(child) && !(here.id || child.id) ? here : null);
      if (match) {
        here = match.nextSibling;
        morph(match, child);
      } else {
        old.insertBefore(child.cloneNode(true), here);
      }
    }
    while (here) drop();
  };

  // At most one request under way; hints that come meanwhile make one more, the later the longer a request takes.
  const whenAsked = (work) => {
    let busy = false;
    let again = false;
    return async () => {
      again = true;
      if (busy) return;
      busy = true;
      try {
        while (again) {
          again = false;
          const begun = performance.now();
          await work();
          const pause = Math.min(3 * (performance.now() - begun), 2000);
          await new Promise((resolve) => setTimeout(resolve, pause));
        }
      } catch {
        again = false;
      } finally {
        busy = false;
      }
    };
  };

  const refresh = whenAsked(async () => {
    const fresh = document.createElement("main");
    fresh.append(await fragment({ fragment: "main" }));
    const title = fresh.querySelector("h1");
    morphChildren(live, fresh);
    tick();
    if (title && log) document.title = `${title.innerText.replace(/\s+/g, " ").trim()} · deferlite`;
  });

  const readLog = whenAsked(async () => {
    for (let full = true; full && log.children.length < mostLines; ) {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
      const page = await fragment({ fragment: "below", after: log.dataset.next });
      const fresh = page.getElementById("log");
      log.append(...fresh.children);
      log.dataset.next = fresh.dataset.next;
      morph(document.getElementById("log-more"), page.getElementById("log-more"));
      document.getElementById("log-empty").hidden = log.children.length > 0;
      full = !document.getElementById("log-more").hidden;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  });

  const rough = (seconds) => {
    if (seconds < 90) return `${Math.round(seconds)}s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)}m`;
    if (seconds < 129600) return `${Math.round(seconds / 3600)}h`;
    return `${Math.round(seconds / 86400)}d`;
  };
  const ago = (seconds) => {
    if (Math.abs(seconds) < 1) return "now";
    return seconds < 0 ? `in ${rough(-seconds)}` : `${rough(seconds)} ago`;
  };
  const two = (number) => String(number).padStart(2, "0");
  const exact = (seconds) => {
    if (seconds < 60) return `${Math.max(0, seconds).toFixed(1)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes}m ${two(Math.floor(seconds % 60))}s`;
    return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
  };
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const tick = () => {
    const now = Date.now();
    for (const each of document.querySelectorAll("[data-ago]")) say(each, ago((now - Date.parse(each.dateTime)) / 1000));
    for (const each of document.querySelectorAll("[data-since]")) {
      say(each, exact((now - Date.parse(each.dataset.since)) / 1000));
    }
  };

  const show = (text, kind) => {
    link.hidden = false;
    link.className = `link ${kind}`;
    say(link, text);
  };

  let events = null;
  const listen = () => {
    const { environment, log: logId } = document.body.dataset;
    events = new EventSource(`/events?${new URLSearchParams({ environment, log: logId })}`);
    events.onopen = () => show("live", "on");
    events.onerror = () => show(events.readyState === EventSource.CLOSED ? "not connected" : "reconnecting", "off");
    events.addEventListener("changed", () => {
      refresh();
      // The last lines may have come with the end.
      if (log) readLog();
    });
    events.addEventListener("logged", () => log && readLog());
  };

  // A browser keeps few connections to one server: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    events.close();
    if (document.visibilityState === "visible") listen();
  });
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });
  if (log && "live" in log.dataset) log.scrollTop = log.scrollHeight;
  setInterval(tick, 1000);
  tick();
  listen();
})();
