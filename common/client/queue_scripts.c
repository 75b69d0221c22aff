/* The scripts: what must happen all together or not at all, and only if the state is what the caller
 * believes. Values to be added are encoded by C: Lua's cjson turns [] into {}.
 *
 * A Redis above its maxmemory refuses a script whose first write takes memory; behind one that takes none it
 * lets all pass (Redis' manual, "Scripting with Redis under low memory conditions"). Appending must be
 * refused: the spool keeps the rest. What empties the stream must not be: those scripts begin with a
 * write that changes nothing. It is the command of the last step where there are several, for nothing takes
 * back what was done before a step that Redis' access control refuses. */
#include "common/client/queue_internal.h"

/* Where acknowledged entries are kept, a group that is made anew must know where to begin: before the
 * oldest that is pending, else behind the last that was delivered. Lower is a repeat, higher a loss. */
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

/* Our own XGROUP takes nothing away from the group: the sweep's witness goes on with the server's count. */
#define COUNT_OWN_XGROUP                                                                           \
    "  local head, count = string.match(redis.call('GET', KEYS[4]) or '', '^(.+) (%d+)$')\n"       \
    "  if head then\n"                                                                             \
    "    redis.call('SET', KEYS[4], head .. ' ' .. (count + 1))\n"                                 \
    "  end\n"

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

    /* KEYS stream, last; ARGV group, 1 if acknowledged entries are deleted. Where they are kept, a group
     * that was lost begins behind the last one acknowledged. */
    [QUEUE_SCRIPT_GROUP] =
        "redis.call('XACK', KEYS[1], ARGV[1], '0-0')\n"
        "local start = ARGV[2] == '0' and redis.call('GET', KEYS[2]) or '0'\n"
        "return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], start, 'MKSTREAM')\n",

    /* KEYS lease, names; ARGV what a standing token must begin with, token, ttl ms, consumer name.
     * 0: somebody else's; 1: it was free; 2: it was our own. */
    [QUEUE_SCRIPT_LEASE] = "local token = redis.call('GET', KEYS[1])\n"
                           "if token and string.sub(token, 1, #ARGV[1]) ~= ARGV[1] then\n"
                           "  return 0\n"
                           "end\n"
                           "redis.call('PEXPIRE', KEYS[1], ARGV[3])\n"
                           "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])\n"
                           "redis.call('SADD', KEYS[2], ARGV[4])\n"
                           "return token and 2 or 1\n",

    /* KEYS lease; ARGV token, ttl ms. 1: renewed; 0: gone or another's. */
    [QUEUE_SCRIPT_RENEW] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n"
                           "  return 0\n"
                           "end\n"
                           "return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n",

    /* KEYS lease, names, stream, since or the lease; ARGV token, consumer name, group. A name with nothing pending goes. */
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
     * Takes over what a consumer without a lease left; once it has nothing more, its name goes. */
    [QUEUE_SCRIPT_TAKE_OVER_DEAD] =
        "if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[3]) == 0 then\n"
        "  return {}\n"
        "end\n"
        "local pending = redis.call('XPENDING', KEYS[3], ARGV[1], '-', '+', ARGV[4], ARGV[3])\n"
        "if #pending == 0 then\n"
        "  redis.call('XGROUP', 'DELCONSUMER', KEYS[3], ARGV[1], ARGV[3])\n"
        "  redis.call('SREM', KEYS[2], ARGV[3])\n" COUNT_OWN_XGROUP "  return {}\n"
        "end\n"
        "local ids = {}\n"
        "for i, entry in ipairs(pending) do\n"
        "  redis.call('XCLAIM', KEYS[3], ARGV[1], ARGV[2], 0, entry[1], 'JUSTID')\n"
        "  ids[i] = entry[1]\n"
        "end\n"
        "return ids\n",

    /* KEYS stream; ARGV group, me, idle ms, id, count, page. Takes over up to count entries of others behind that
     * id. Looks at a page; first it returns the last id that it looked at, or 0-0 if there is nothing behind. */
    [QUEUE_SCRIPT_TAKE_OVER_IDLE] =
        "local page = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '(' .. ARGV[4],"
        " '+', ARGV[6])\n"
        "local taken = {'0-0'}\n"
        "for _, entry in ipairs(page) do\n"
        "  if #taken > tonumber(ARGV[5]) then\n"
        "    return taken\n"
        "  end\n"
        "  taken[1] = entry[1]\n"
        "  if entry[2] ~= ARGV[2] then\n"
        "    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], entry[1], 'JUSTID')\n"
        "    taken[#taken + 1] = entry[1]\n"
        "  end\n"
        "end\n"
        "if #taken <= tonumber(ARGV[5]) and #page < tonumber(ARGV[6]) then\n"
        "  taken[1] = '0-0'\n"
        "end\n"
        "return taken\n",

    /* KEYS stream, since; ARGV group, until, count. Removes what the stream's only group is through with (delivered,
     * and no longer pending) between since and until, up to count entries. since: "<position> <witness>", where a look
     * found the group, and what the server had counted then; until: where an earlier look of this caller found the
     * group, empty at first. Both are ends of an XRANGE. Returns where the group is now, empty if there is another
     * group, and how many were removed.
     * An acknowledgement leaves no trace, but each other way past an entry or out of what is pending is an XGROUP, and
     * the server counts those. Unless the server and its count are what they were at since, which is set anew else,
     * what lies in between was acknowledged. A CREATE that finds the group there fails, and is not counted; our own
     * scripts delete no name that has anything pending, and say so there. */
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

    /* KEYS stream, last; ARGV group, delete, track, id... Where one of both is refused nothing is done. Returns how many
     * were deleted. */
    [QUEUE_SCRIPT_ACKNOWLEDGE] = "local deleted = 0\n"
                                 "if ARGV[2] == '1' then\n"
                                 "  redis.call('XDEL', KEYS[1], '0-0')\n"
                                 "end\n"
                                 "redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 4))\n"
                                 "if ARGV[2] == '1' then\n"
                                 "  deleted = redis.call('XDEL', KEYS[1], unpack(ARGV, 4))\n"
                                 "end\n" TRACK_LAST("KEYS[2]", "ARGV[3]") "return deleted\n",

    /* KEYS stream, delayed, last; ARGV group, me, id, score, member, delete, track. 0: no longer ours. */
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

    /* KEYS delayed, stream; ARGV member, value, maxlen, now ms. 0: another worker has moved it, or is about to:
     * Symfony 6.4.50 gives it a score of the future first, then adds the entry, then removes the member.
     * What can't be added stays in the set. */
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

    /* KEYS stream, guard, guard of what goes before it or the stream; ARGV maxlen, then the fields. 0: it was added
     * before. Refused while what goes before it is not there, and where trimming to maxlen would take an entry that
     * a group still needs. The first write changes nothing, and fails where the guard could not be set. */
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

    /* KEYS stream, guard of the entry, guard of the identity or the same again; ARGV maxlen, s that guards stand, value.
     * 0: it was added before. The first write changes nothing, and fails where a guard could not be set. A guard
     * holds the id of what was added. */
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

    /* KEYS latest; ARGV limit, then a topic and its document each. What is compared stands in the documents, whose
     * members have a fixed order: the identity first, the time last. A Redis without room refuses this, and no value
     * is kept. */
    [QUEUE_SCRIPT_KEEP_LATEST] =
        "local function identity(document)\n"
        "  return string.match(document, '^{\"id\":\"(%x+)-(%d+)')\n"
        "end\n"
        "local function received(document)\n"
        "  return string.match(string.sub(document, -48), '\"receivedAt\":\"([^\"]*)\"}$')\n"
        "end\n"
        "local function is_less(a, b)\n" /* numbers of any length */
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
