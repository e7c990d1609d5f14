-- Put in front of every script that a test sends: see scripts.py, which makes one line of it.
-- For Redis 6 to 8 and Valkey: Lua 5.1 with what is left of it in their sandbox.
-- The last of ARGV is 'l' or 'u', for a user whom the server limits or not, and then the prefix.
local redis = (function(server, places)
  local prefix = table.remove(ARGV)
  local limited = prefix:sub(1, 1) == 'l'
  prefix = prefix:sub(2)
  local function strip(name)
    if type(name) == 'string' and name:sub(1, #prefix) == prefix then
      return name:sub(#prefix + 1)
    end
    return name
  end
  for i = 1, #KEYS do KEYS[i] = strip(KEYS[i]) end

  local function place_of(args)
    local name = args[1]:upper()
    local both = name .. '|' .. tostring(args[2]):upper()
    for place, names in places:gmatch('([^=;]+)=([^;]*)') do
      if names:find(' ' .. name .. ' ', 1, true) or names:find(' ' .. both .. ' ', 1, true) then
        return place
      end
    end
  end

  local function add(args, first, last, step)
    for i = first, math.min(last, #args), step do args[i] = prefix .. args[i] end
  end

  local function add_at(args, place)
    for part in place:gmatch('%S+') do
      local at, every = part:match('^(%d+)#(%d*)$')
      local word, start, share = part:match('^(%u+)@(%d+)/(%d+)$')
      if at then
        every = tonumber(every) or 1
        add(args, at + 2, at + 1 + (tonumber(args[at + 1]) or 0) * every, every)
      elseif word then
        for i = start + 1, #args do
          if tostring(args[i]):upper() == word then
            add(args, i + 1, i + math.floor((#args - i) / share), 1)
            break
          end
        end
      else
        local first, last, step = part:match('^(%d+):?(%-?%d*):?(%d*)$')
        last = tonumber(last) or tonumber(first)
        add(args, first + 1, last < 0 and #args + last + 1 or last + 1, tonumber(step) or 1)
      end
    end
  end

  local function add_behind(args, start, words)
    add(args, 2, 2, 1)
    local i = start
    while i < #args do
      local count = words[tostring(args[i]):upper()]
      if count == 1 and args[i + 1] ~= '#' then args[i + 1] = prefix .. args[i + 1] end
      i = i + 1 + (count or 0)
    end
  end

  local function each(names)
    if not names.err then
      for i = 1, #names do names[i] = strip(names[i]) end
    end
    return names
  end

  local function ours(call) return call('KEYS', prefix .. '*') end

  local sort = {BY = 1, GET = 1, STORE = 1, LIMIT = 2}
  local store = {STORE = 1, STOREDIST = 1}
  local special = {
    DBSIZE = function(call) return #ours(call) end,
    FLUSHDB = function(call)
      for _, key in ipairs(ours(call)) do call('UNLINK', key) end
      return server.status_reply('OK')
    end,
    RANDOMKEY = function(call)
      local keys = ours(call)
      return #keys > 0 and strip(keys[math.random(#keys)])
    end,
    KEYS = function(call, args) return each(call('KEYS', prefix .. (args[2] or '*'))) end,
    SCAN = function(call, args)
      local option = {MATCH = '*'}
      for i = 3, #args - 1, 2 do option[tostring(args[i]):upper()] = args[i + 1] end
      if tostring(args[2]) ~= '0' then return {'0', {}} end
      local names = {}
      for _, key in ipairs(call('KEYS', prefix .. option.MATCH)) do
        if not option.TYPE or call('TYPE', key).ok == option.TYPE:lower() then
          names[#names + 1] = strip(key)
        end
      end
      return {'0', names}
    end,
    SORT = function(call, args)
      add_behind(args, 3, sort)
      return call(unpack(args))
    end,
    GEORADIUS = function(call, args)
      add_behind(args, 7, store)
      return call(unpack(args))
    end,
    GEORADIUSBYMEMBER = function(call, args)
      add_behind(args, 6, store)
      return call(unpack(args))
    end
  }
  special.SORT_RO = special.SORT
  local function refuse(call, args)
    local reason = 'itkit: ' .. args[1] .. ' in a script would reach beyond its test'
    return call == server.pcall and server.error_reply(reason) or error(reason)
  end
  if not limited then
    special.FLUSHALL, special.SWAPDB, special.MOVE, special.MIGRATE = refuse, refuse, refuse, refuse
  end

  local named = ' BLMPOP BLPOP BRPOP BZMPOP BZPOPMAX BZPOPMIN LMPOP ZMPOP '
  local function send(call, ...)
    local args = {...}
    if type(args[1]) ~= 'string' then return call(...) end
    local name = args[1]:upper()
    if special[name] then return special[name](call, args) end
    local place = place_of(args)
    if not place then return call(...) end
    add_at(args, place)
    local reply = call(unpack(args))
    if type(reply) == 'table' and not reply.err then
      if named:find(' ' .. name .. ' ', 1, true) then
        reply[1] = strip(reply[1])
      elseif name == 'XREAD' or name == 'XREADGROUP' then
        for _, stream in ipairs(reply) do stream[1] = strip(stream[1]) end
      end
    end
    return reply
  end

  return setmetatable({
    call = function(...) return send(server.call, ...) end,
    pcall = function(...) return send(server.pcall, ...) end
  }, {__index = server})
end)(redis, 'PLACES')
local server = redis
