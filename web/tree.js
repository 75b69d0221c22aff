/* Topics as a tree, and the tree as the list of rows that are unfolded. Pure.
 *
 * A level with one level below it and no value of its own shares its row: `sensors/room1` is one row, not
 * two. Rows are made anew only when topics, folding or the search change, never for a new value.
 */

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function makeNode(name, path) {
  return { name, path, entry: null, children: new Map(), sorted: null, size: 0 };
}

export class TopicTree {
  constructor() {
    this.root = makeNode("", null);
    this.folded = new Set(); /* paths */
  }

  add(entry) {
    let node = this.root;
    node.size += 1;
    for (const name of entry.topic.split("/")) {
      let child = node.children.get(name);
      if (!child) {
        child = makeNode(name, node === this.root ? name : `${node.path}/${name}`);
        node.children.set(name, child);
        node.sorted = null;
      }
      child.size += 1;
      node = child;
    }
    node.entry = entry;
  }

  toggle(path) {
    if (!this.folded.delete(path)) {
      this.folded.add(path);
    }
  }

  /* Rows {kind: "group"|"topic", label, path, depth, size, entry, folded}. accept(entry) says which topics
   * are wanted; with `searching`, folded levels are open. A topic may have thousands of levels: the way down
   * is kept in a list, not on the call stack. */
  rows(accept, searching) {
    const rows = [];
    const way = [openLevel(this.root, null, 0)];
    while (way.length > 0) {
      const level = way[way.length - 1];
      const { value: first, done } = level.children.next();
      if (done) {
        way.pop();
        closeLevel(level, way[way.length - 1], rows);
        continue;
      }
      const [child, label] = joinLevels(first);
      const depth = way.length - 1;
      if (child.entry !== null && accept(child.entry)) {
        rows.push({ kind: "topic", label, path: child.path, depth, entry: child.entry });
        level.wanted += 1;
      }
      if (child.children.size > 0) {
        const folded = !searching && this.folded.has(child.path);
        const group = { kind: "group", label, path: child.path, depth, size: 0, entry: null, folded };
        way.push(openLevel(child, group, rows.push(group)));
      }
    }
    return rows;
  }
}

function openLevel(node, group, rowsWithGroup) {
  node.sorted ??= [...node.children.values()].sort(
    (a, b) => collator.compare(a.name, b.name) || (a.name < b.name ? -1 : 1));
  return { children: node.sorted.values(), group, rowsWithGroup, wanted: 0 };
}

/* A group without a wanted topic has no row, a folded one no rows below it. */
function closeLevel(level, above, rows) {
  const { group, rowsWithGroup, wanted } = level;
  if (group === null) {
    return;
  }
  group.size = wanted;
  above.wanted += wanted;
  if (wanted === 0) {
    rows.length = rowsWithGroup - 1;
  } else if (group.folded) {
    rows.length = rowsWithGroup;
  }
}

/* Down to the first level that has a value or a choice. */
function joinLevels(first) {
  let node = first;
  let label = first.name;
  while (node.entry === null && node.children.size === 1) {
    [node] = node.children.values();
    label += `/${node.name}`;
  }
  return [node, label];
}

/* Every topic in one list. */
export function flatRows(entries, accept) {
  return [...entries].filter(accept)
    .sort((a, b) => collator.compare(a.topic, b.topic) || (a.topic < b.topic ? -1 : 1))
    .map((entry) => ({ kind: "topic", label: entry.topic, path: entry.topic, depth: 0, entry }));
}

/* Words that must all be in the topic, in any case; `+` and `#` as in an MQTT filter. */
export function makeMatcher(search) {
  const text = search.trim();
  if (text === "") {
    return () => true;
  }
  if (/(^|\/)[+#](\/|$)/.test(text)) {
    return (topic) => filterMatches(text, topic);
  }
  const words = text.toLowerCase().split(/\s+/);
  return (topic) => {
    const lower = topic.toLowerCase();
    return words.every((word) => lower.includes(word));
  };
}

export function filterMatches(filter, topic) {
  const wanted = filter.split("/");
  const levels = topic.split("/");
  if (topic.startsWith("$") && (wanted[0] === "+" || wanted[0] === "#")) {
    return false;
  }
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === "#") {
      return i === wanted.length - 1;
    }
    if (i >= levels.length || (wanted[i] !== "+" && wanted[i] !== levels[i])) {
      return false;
    }
  }
  return wanted.length === levels.length;
}
