from model_bakery.recipe import Recipe, foreign_key, seq

from tests.support.kinds import models

# Called as its model: followed wherever no other is named.
echo = Recipe(models.Echo, heard=foreign_key(Recipe(models.Heard, name="by recipe")))
loud_echo = echo.extend(heard=foreign_key(Recipe(models.Heard, name="LOUD")))
numbered = Recipe("shopdata.Product", price=seq(10))
