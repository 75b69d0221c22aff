/* The scripts: steps that must happen together or not at all, and only if Redis' state is what the caller expects.
 * Values to be added are encoded in C: Lua's cjson turns [] into {}.
 *
 * A Redis above its maxmemory refuses a script whose first write takes memory. If the first write takes none, all
 * writes pass (Redis' manual, "Scripting with Redis under low memory conditions"). Appending must be refused: the spool
 * keeps the messages. Scripts that empty the stream must pass: they begin with a write that changes nothing. With
 * several steps that write is the command of the last step. So if Redis' access control forbids that command, the
 * script fails before any change: a script is not rolled back. */
#include "common/client/queue_internal.h"

/* If acknowledged entries are kept, a group that is made anew must know where to begin. That is
 * before the oldest pending entry, else behind the last delivered one. A lower id repeats
 * messages, a higher one loses some. */
#define TRACK_LAST(key, track)                                                                     \
    "if " track " == '1' then\n"                                                                   \
    "  local summary = redis.call('XPENDING', KEYS[1], ARGV[1])\n"                                 \
    "  local last\n"                                                                               \
    "  if summary[1] > 0 then\n"                                                                   \
    "    local ms, sequence = string.match(summary[2], '(%d+)-(%d+)')\n"                           \
    "    if sequence == '0' then\n"                                                                \
    "      last = string.format('%.0f-18446744073709551615', tonumber(ms) - 1)\n"                  \
    "    else\n"                                                                                   \
    "      last = string.format('%s-%.0f', ms, tonumber(sequence) - 1)\n"                          \
    "    end\n"                                                                                    \
    "  else\n"                                                                                     \
    "    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do\n"                      \
    "      local fields = {}\n"                                                                    \
    "      for i = 1, #group, 2 do\n"                                                              \
    "        fields[group[i]] = group[i + 1]\n"                                                    \
    "      end\n"                                                                                  \
    "      if fields.name == ARGV[1] then\n"                                                       \
    "        last = fields['last-delivered-id']\n"                                                 \
    "      end\n"                                                                                  \
    "    end\n"                                                                                    \
    "  end\n"                                                                                      \
    "  redis.call('SET', " key ", last)\n"                                                         \
    "end\n"

/* The scripts' own XGROUP removes no pending entries. So the count of XGROUP calls that the
 * sweep compares is raised too. */
#define COUNT_OWN_XGROUP                                                                           \
    "  local head, count = string.match(redis.call('GET', KEYS[4]) or '', '^(.+) (%d+)$')\n"       \
    "  if head then\n"                                                                             \
    "    redis.call('SET', KEYS[4], head .. ' ' .. (count + 1))\n"                                 \
    "  end\n"

/* Claims an entry, given as a row of XPENDING, of the group ARGV[1] for ARGV[2]. Returns its id, and its delivery count
 * before. An entry that was given back (count 0) counts as delivered from now on. */
#define CLAIM                                                                                      \
    "local function claim(stream, entry, idle)\n"                                                  \
    "  redis.call('XCLAIM', stream, ARGV[1], ARGV[2], idle, entry[1],"                             \
    " 'RETRYCOUNT', math.max(entry[4], 1), 'JUSTID')\n"                                            \
    "  return {entry[1], entry[4]}\n"                                                              \
    "end\n"

const char *const QUEUE_SCRIPT_TEXT[QUEUE_SCRIPTS] = {
    /* KEYS stream, mark; ARGV expected mark, new mark, maxlen, value... */
    [QUEUE_SCRIPT_APPEND] =
        "local mark = redis.call('GET', KEYS[2]) or ''\n"
        "if mark ~= ARGV[1] then\n"
        "  return redis.error_reply('FENCED ' .. mark)\n"
        "end\n"
        "redis.call('SET', KEYS[2], mark, 'XX')\n"
        "local call, stream, maxlen = redis.call, KEYS[1], ARGV[3]\n"
        "for i = 4, #ARGV do\n"
        "  if maxlen ~= '0' then\n"
        "    call('XADD', stream, 'MAXLEN', '~', maxlen, '*', 'message', ARGV[i])\n"
        "  else\n"
        "    call('XADD', stream, '*', 'message', ARGV[i])\n"
        "  end\n"
        "end\n"
        "redis.call('SET', KEYS[2], ARGV[2])\n"
        "return #ARGV - 3\n",

    /* KEYS stream, last; ARGV group, 1 if acknowledged entries are deleted. If they are kept, a group that was lost
     * begins behind the last one acknowledged. */
    [QUEUE_SCRIPT_GROUP] =
        "redis.call('XACK', KEYS[1], ARGV[1], '0-0')\n"
        "local start = ARGV[2] == '0' and redis.call('GET', KEYS[2]) or '0'\n"
        "return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], start, 'MKSTREAM')\n",

    /* KEYS lease, names; ARGV what a standing token must begin with, token, ttl ms, consumer name.
     * 0: another process has it; 1: it was free; 2: this process had it. */
    [QUEUE_SCRIPT_LEASE] = "local token = redis.call('GET', KEYS[1])\n"
                           "if token and string.sub(token, 1, #ARGV[1]) ~= ARGV[1] then\n"
                           "  return 0\n"
                           "end\n"
                           "redis.call('PEXPIRE', KEYS[1], ARGV[3])\n"
                           "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n"
                           "redis.call('SADD', KEYS[2], ARGV[4])\n"
                           "return token and 2 or 1\n",

    /* KEYS lease; ARGV token, ttl ms. 1: renewed; 0: it has gone, or another process has it. */
    [QUEUE_SCRIPT_RENEW] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n"
                           "  return 0\n"
                           "end\n"
                           "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n",

    /* KEYS lease, names, stream, since or the lease; ARGV token, consumer name, group. Removes the name if it has
     * nothing pending. */
    [QUEUE_SCRIPT_RELEASE] =
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n"
        "  return 0\n"
        "end\n"
        "redis.call('DEL', KEYS[1])\n"
        "if redis.call('EXISTS', KEYS[3]) == 1 and\n"
        "   #redis.call('XPENDING', KEYS[3], ARGV[3], '-', '+', 1, ARGV[2]) == 0 then\n"
        "  redis.call('XGROUP', 'DELCONSUMER', KEYS[3], ARGV[3], ARGV[2])\n"
        "  redis.call('SREM', KEYS[2], ARGV[2])\n" COUNT_OWN_XGROUP "end\n"
        "return 1\n",

    /* KEYS lease of the name, names, stream, since or the lease; ARGV group, me, name, count.
     * Claims entries of a consumer without a lease, and removes its name once it has none left. */
    [QUEUE_SCRIPT_TAKE_OVER_DEAD] =
        "if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[3]) == 0 then\n"
        "  return {}\n"
        "end\n"
        "local pending = redis.call('XPENDING', KEYS[3], ARGV[1], '-', '+', ARGV[4], ARGV[3])\n"
        "if #pending == 0 then\n"
        "  redis.call('XGROUP', 'DELCONSUMER', KEYS[3], ARGV[1], ARGV[3])\n"
        "  redis.call('SREM', KEYS[2], ARGV[3])\n" COUNT_OWN_XGROUP "  return {}\n"
        "end\n" CLAIM "local taken = {}\n"
        "for i, entry in ipairs(pending) do\n"
        "  taken[i] = claim(KEYS[3], entry, 0)\n"
        "end\n"
        "return taken\n",

    /* KEYS stream; ARGV group, me, idle ms, id, count, page. Looks at a page of idle entries behind that id, and
     * claims up to count of other consumers. Returns the last id that it looked at (0-0: no more behind it), then the
     * entries. */
    [QUEUE_SCRIPT_TAKE_OVER_IDLE] =
        "local page = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '(' .. ARGV[4],"
        " '+', ARGV[6])\n" CLAIM "local taken = {{'0-0', 0}}\n"
        "for _, entry in ipairs(page) do\n"
        "  if #taken > tonumber(ARGV[5]) then\n"
        "    return taken\n"
        "  end\n"
        "  taken[1] = {entry[1], 0}\n"
        "  if entry[2] ~= ARGV[2] then\n"
        "    taken[#taken + 1] = claim(KEYS[1], entry, ARGV[3])\n"
        "  end\n"
        "end\n"
        "if #taken <= tonumber(ARGV[5]) and #page < tonumber(ARGV[6]) then\n"
        "  taken[1] = {'0-0', 0}\n"
        "end\n"
        "return taken\n",

    /* KEYS stream, since; ARGV group, until, count. Between the positions since and until, removes up to count entries
     * that the stream's only group has acknowledged: delivered, and no longer pending. Both positions are ends of an
     * XRANGE. Returns the group's position now (empty if there is another group), and the number of removed entries.
     *
     *     since   "<position> <witness>": the group's position at an earlier look, and the server's id and count of
     *             XGROUP calls then
     *     until   the group's position at an earlier look of this caller, empty at first
     *
     * An acknowledgement leaves no trace in Redis. But an entry that is skipped, or leaves the pending entries in any
     * other way, does so by an XGROUP, and the server counts those. So if the witness is unchanged, the entries in
     * between were acknowledged; else since is set anew. An XGROUP CREATE of an existing group fails and is not
     * counted. These scripts delete only names without pending entries, and raise the witness (COUNT_OWN_XGROUP). */
    [QUEUE_SCRIPT_SWEEP] =
        "local function padded(id)\n"
        "  local ms, sequence = string.match(id, '(%d+)-(%d+)')\n"
        "  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #sequence) .. sequence\n"
        "end\n"
        "local function witness()\n"
        "  local info = redis.call('INFO', 'commandstats')\n"
        "  local count, resets = 0, string.match(info, 'resetstat:calls=(%d+)') or 0\n"
        "  for line in string.gmatch(info, 'cmdstat_xgroup[^\\r\\n]+') do\n"
        "    count = count + string.match(line, ':calls=(%d+)') -\n"
        "            (string.match(line, 'failed_calls=(%d+)') or 0)\n"
        "  end\n"
        "  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')\n"
        "  return run_id and string.find(info, 'cmdstat_xinfo', 1, true) and\n"
        "         run_id .. ' ' .. resets .. ' ' .. count\n"
        "end\n"
        "local groups = redis.call('XINFO', 'GROUPS', KEYS[1])\n"
        "local group = {}\n"
        "for i = 1, #groups == 1 and #groups[1] or 0, 2 do\n"
        "  group[groups[1][i]] = groups[1][i + 1]\n"
        "end\n"
        "local seen = witness()\n"
        "if group.name ~= ARGV[1] or not seen then\n"
        "  return {'', 0}\n"
        "end\n"
        "redis.call('XDEL', KEYS[1], '0-0')\n"
        "local last = group['last-delivered-id']\n"
        "local oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2]\n"
        "local since, then_seen = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (.+)$')\n"
        "local removed = 0\n"
        "if then_seen ~= seen then\n"
        "  redis.call('SET', KEYS[2], '(' .. last .. ' ' .. seen)\n"
        "elseif ARGV[2] ~= '' then\n"
        "  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], since, ARGV[2], 'COUNT', ARGV[3])) "
        "do\n"
        "    local id = padded(entry[1])\n"
        "    if id <= padded(last) and (not oldest or id < padded(oldest)) then\n"
        "      removed = removed + redis.call('XDEL', KEYS[1], entry[1])\n"
        "    end\n"
        "  end\n"
        "end\n"
        "return {oldest and '(' .. oldest or last, removed}\n",

    /* KEYS stream, last; ARGV group, delete, track, id... If XACK or XDEL is forbidden nothing is done. Returns how
     * many entries were deleted. */
    [QUEUE_SCRIPT_ACKNOWLEDGE] = "local deleted = 0\n"
                                 "if ARGV[2] == '1' then\n"
                                 "  redis.call('XDEL', KEYS[1], '0-0')\n"
                                 "end\n"
                                 "redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 4))\n"
                                 "if ARGV[2] == '1' then\n"
                                 "  deleted = redis.call('XDEL', KEYS[1], unpack(ARGV, 4))\n"
                                 "end\n" TRACK_LAST("KEYS[2]", "ARGV[3]") "return deleted\n",

    /* KEYS stream, delayed, last; ARGV group, me, id, score, member, delete, track. 0: not pending for me. */
    [QUEUE_SCRIPT_RETRY] =
        "local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)\n"
        "if #pending == 0 or pending[1][2] ~= ARGV[2] then\n"
        "  return 0\n"
        "end\n"
        "redis.call('XACK', KEYS[1], ARGV[1], '0-0')\n"
        "if ARGV[6] == '1' then\n"
        "  redis.call('XDEL', KEYS[1], '0-0')\n"
        "end\n"
        "redis.call('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[5])\n"
        "redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])\n"
        "if ARGV[6] == '1' then\n"
        "  redis.call('XDEL', KEYS[1], ARGV[3])\n"
        "end\n" TRACK_LAST("KEYS[3]", "ARGV[7]") "return 1\n",

    /* KEYS delayed, stream; ARGV member, value, maxlen, now ms. 0: another worker has moved the member, or
     * is about to. Symfony 6.4.50 first gives the member a score of the future, then adds the entry, then removes the
     * member. A value that can't be added stays in the set. */
    [QUEUE_SCRIPT_MOVE] = "local due = redis.call('ZSCORE', KEYS[1], ARGV[1])\n"
                          "if not due or tonumber(due) > tonumber(ARGV[4]) then\n"
                          "  return 0\n"
                          "end\n"
                          "redis.call('ZREM', KEYS[1], '')\n"
                          "if ARGV[3] ~= '0' then\n"
                          "  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*',"
                          " 'message', ARGV[2])\n"
                          "else\n"
                          "  redis.call('XADD', KEYS[2], '*', 'message', ARGV[2])\n"
                          "end\n"
                          "redis.call('ZREM', KEYS[1], ARGV[1])\n"
                          "return 1\n",

    /* KEYS stream, guard, guard of the message that has to come first or the stream; ARGV maxlen, then the fields.
     * 0: the message was added before. Refused while the message that has to come first was not added. Also
     * refused if trimming to maxlen would remove an entry that a group still needs. The first write changes
     * nothing, and fails if the guard can't be set. */
    [QUEUE_SCRIPT_REDRIVE] = "local function is_full(maxlen)\n"
                             "  local over = redis.call('XLEN', KEYS[1]) + 1 - maxlen\n"
                             "  if over <= 0 then\n"
                             "    return false\n"
                             "  end\n"
                             "  local groups = redis.call('XINFO', 'GROUPS', KEYS[1])\n"
                             "  for _, group in ipairs(groups) do\n"
                             "    local fields = {}\n"
                             "    for i = 1, #group, 2 do\n"
                             "      fields[group[i]] = group[i + 1]\n"
                             "    end\n"
                             "    local oldest = redis.call('XPENDING', KEYS[1], fields.name)[2]\n"
                             "    local done = redis.call('XRANGE', KEYS[1], '-',"
                             " oldest and '(' .. oldest or fields['last-delivered-id'],"
                             " 'COUNT', math.min(over, 1000))\n"
                             "    if #done < over then\n"
                             "      return true\n"
                             "    end\n"
                             "  end\n"
                             "  return #groups == 0\n"
                             "end\n"
                             "if redis.call('EXISTS', KEYS[2]) == 1 then\n"
                             "  return 0\n"
                             "end\n"
                             "if KEYS[3] ~= KEYS[1] and redis.call('EXISTS', KEYS[3]) == 0 then\n"
                             "  return redis.error_reply('BEHIND what was refused')\n"
                             "end\n"
                             "if ARGV[1] ~= '0' and is_full(tonumber(ARGV[1])) then\n"
                             "  return redis.error_reply('FULL of what waits')\n"
                             "end\n"
                             "redis.call('SET', KEYS[2], '', 'XX')\n"
                             "if ARGV[1] ~= '0' then\n"
                             "  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',"
                             " unpack(ARGV, 2))\n"
                             "else\n"
                             "  redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))\n"
                             "end\n"
                             "redis.call('SET', KEYS[2], '1', 'EX', 604800)\n"
                             "return 1\n",

    /* KEYS stream, guard of the entry, guard of the identity or again that of the entry; ARGV maxlen, lifetime of
     * guards in s, value. 0: it was added before. The first write changes nothing, and fails if a guard can't be set.
     * A guard holds the id of the added entry. */
    [QUEUE_SCRIPT_ADD_FAILED] =
        "local id = redis.call('GET', KEYS[3])\n"
        "if redis.call('EXISTS', KEYS[2]) == 1 or\n"
        "   id and #redis.call('XRANGE', KEYS[1], id, id) > 0 then\n"
        "  return 0\n"
        "end\n"
        "redis.call('SET', KEYS[2], '', 'XX')\n"
        "if ARGV[1] ~= '0' then\n"
        "  id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'message', ARGV[3])\n"
        "else\n"
        "  id = redis.call('XADD', KEYS[1], '*', 'message', ARGV[3])\n"
        "end\n"
        "redis.call('SET', KEYS[2], id, 'EX', ARGV[2])\n"
        "redis.call('SET', KEYS[3], id, 'EX', ARGV[2])\n"
        "return 1\n",

    /* KEYS latest; ARGV limit, then a topic and its document each. The script compares identity and time, which are the
     * first and the last member of each document. A Redis without room refuses this, and no value is kept. */
    [QUEUE_SCRIPT_KEEP_LATEST] =
        "local function identity(document)\n"
        "  return string.match(document, '^{\"id\":\"(%x+)-(%d+)')\n"
        "end\n"
        "local function received(document)\n"
        "  return string.match(string.sub(document, -48), '\"receivedAt\":\"([^\"]*)\"}$')\n"
        "end\n"
        "local function is_less(a, b)\n" /* compares numbers of any length */
        "  if #a ~= #b then\n"
        "    return #a < #b\n"
        "  end\n"
        "  return a < b\n"
        "end\n"
        "local function is_newer(document, kept)\n"
        "  local origin, number = identity(document)\n"
        "  local kept_origin, kept_number = identity(kept)\n"
        "  if not origin then\n"
        "    return false\n"
        "  end\n"
        "  if origin == kept_origin then\n"
        "    return is_less(kept_number, number)\n"
        "  end\n"
        "  local time, kept_time = received(document), received(kept)\n"
        "  if time and kept_time and time ~= kept_time then\n"
        "    return time > kept_time\n"
        "  end\n"
        "  return not kept_origin or #origin == 32 or #kept_origin == 32 or"
        " is_less(kept_origin, origin)\n"
        "end\n"
        "for i = 2, #ARGV, 2 do\n"
        "  local kept = redis.call('HGET', KEYS[1], ARGV[i])\n"
        "  if not kept or is_newer(ARGV[i + 1], kept) then\n"
        "    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])\n"
        "  end\n"
        "end\n"
        "local too_many = redis.call('HLEN', KEYS[1]) - tonumber(ARGV[1])\n"
        "for _ = 1, math.min(too_many, #ARGV) do\n"
        "  local drawn = redis.call('HRANDFIELD', KEYS[1], 5, 'WITHVALUES')\n"
        "  local oldest = 1\n"
        "  for i = 3, #drawn, 2 do\n"
        "    if not identity(drawn[i + 1]) or is_newer(drawn[oldest + 1], drawn[i + 1]) then\n"
        "      oldest = i\n"
        "    end\n"
        "  end\n"
        "  redis.call('HDEL', KEYS[1], drawn[oldest])\n"
        "end\n"
        "return 1\n",
};
