-- Put in front of every script that a test sends: see scripts.py, which makes one line of it.
-- For Redis 6 to 8 and Valkey: Lua 5.1 with what is left of it in their sandbox.
-- The last of ARGV is 'l' or 'u', for a user whom the server limits or not, and then the prefix.
-- POLICY has the tables of itkit/redis/policy.py and itkit/redis/commands.py, which count from 0.
local redis = (function(server, policy)
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

  local function found_in(rows, name, both)
    for value, names in pairs(rows) do
      if names:find(' ' .. name .. ' ', 1, true) or names:find(' ' .. both .. ' ', 1, true) then
        return value
      end
    end
  end

  local function add(args, first, last, step)
    for i = first, math.min(last, #args), step do args[i] = prefix .. args[i] end
  end

  local function add_at(args, notation)
    for part in notation:gmatch('%S+') do
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

  local function add_behind(args, options)
    add(args, 2, 2, 1)
    local i = options.start + 1
    while i < #args do
      local count = options.words[tostring(args[i]):upper()]
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

  local keyspace = {
    DBSIZE = function(call) return #ours(call) end,
    FLUSHDB = function(call)
      for _, key in ipairs(ours(call)) do call('UNLINK', key) end
      return server.status_reply('OK')
    end,
    RANDOMKEY = function(call)
      local keys = ours(call)
      return #keys > 0 and strip(keys[math.random(#keys)])
    end,
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
    end
  }
  local function refuse(call, args)
    local reason = 'itkit: ' .. args[1] .. ' in a script would reach beyond its test'
    return call == server.pcall and server.error_reply(reason) or error(reason)
  end
  if not limited then
    for name in policy.refused:gmatch('%S+') do keyspace[name] = refuse end
  end

  local read = {
    first = function(reply) reply[1] = strip(reply[1]) end,
    by_name = function(reply)
      for _, pair in ipairs(reply) do pair[1] = strip(pair[1]) end
    end,
    names_and_values = function(reply)
      for i = 1, #reply, 2 do reply[i] = strip(reply[i]) end
    end
  }

  local function send(call, ...)
    local args = {...}
    if type(args[1]) ~= 'string' then return call(...) end
    local name = args[1]:upper()
    if keyspace[name] then return keyspace[name](call, args) end
    local both = name .. '|' .. tostring(args[2]):upper()
    local at = policy.patterns[name] or policy.patterns[both]
    if at then
      args[at + 1] = prefix .. (args[at + 1] or '*')
      return each(call(unpack(args)))
    end
    if policy.options[name] then
      add_behind(args, policy.options[name])
      return call(unpack(args))
    end
    local notation = found_in(policy.positions, name, both)
    if not notation then return call(...) end
    add_at(args, notation)
    local reply = call(unpack(args))
    local shape = type(reply) == 'table' and not reply.err and found_in(policy.replies, name, both)
    if shape then read[shape](reply) end
    return reply
  end

  return setmetatable({
    call = function(...) return send(server.call, ...) end,
    pcall = function(...) return send(server.pcall, ...) end
  }, {__index = server})
end)(redis, POLICY)
local server = redis
