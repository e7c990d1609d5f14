"""A GeoDjango project on a Postgres of the system that has PostGIS, where there is one."""

from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project


def _is_here() -> bool:
    has_libraries = find_library("gdal") and find_library("geos_c")
    return bool(has_libraries) and any(
        Path("/usr/share/postgresql").glob("*/extension/postgis.control")
    )


pytestmark = pytest.mark.skipif(
    not _is_here(), reason="PostGIS, GDAL or GEOS is not on this machine"
)

SETTINGS = """
    INSTALLED_APPS += ["django.contrib.gis"]
    DATABASES["default"]["ENGINE"] = "django.contrib.gis.db.backends.postgis"
"""
MODELS = """
    from django.contrib.gis.db import models


    class Customer(models.Model):
        email = models.EmailField(unique=True)


    class Currency(models.Model):
        code = models.CharField(max_length=3, unique=True)


    class Place(models.Model):
        name = models.CharField(max_length=20)
        point = models.PointField(geography=True)
        area = models.MultiPolygonField(srid=3857, null=True, spatial_index=True)
        track = models.LineStringField(dim=3, null=True)
        picture = models.RasterField(null=True)
"""
MIGRATION = """
    import django.contrib.gis.db.models as gis
    from django.contrib.gis.geos import Point
    from django.contrib.postgres.operations import CreateExtension
    from django.db import migrations, models


    def seed(apps, schema_editor):
        apps.get_model("shop", "Place").objects.create(name="Berlin", point=Point(13.4, 52.5))


    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            CreateExtension("postgis_raster"),
            migrations.CreateModel("Place", [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=20)),
                ("point", gis.PointField(geography=True, srid=4326)),
                ("area", gis.MultiPolygonField(srid=3857, null=True)),
                ("track", gis.LineStringField(dim=3, srid=4326, null=True)),
                ("picture", gis.RasterField(srid=4326, null=True)),
            ]),
            migrations.RunPython(seed, migrations.RunPython.noop),
        ]
"""
TESTS = """
    from django.contrib.gis.db.models.functions import Area, Distance
    from django.contrib.gis.gdal import GDALRaster
    from django.contrib.gis.geos import LineString, MultiPolygon, Point, Polygon
    from django.contrib.gis.measure import D
    from django.db import connection
    from django.test import TestCase
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Place

    PARIS = Point(2.35, 48.85)


    class Places(IntegrationTestCase):
        def test_a_near(self):
            Place.objects.create(name="Paris", point=PARIS)
            near = Place.objects.filter(point__distance_lte=(Point(2.3, 48.9), D(km=20)))
            self.assertEqual([place.name for place in near], ["Paris"])
            far = Place.objects.annotate(far=Distance("point", PARIS)).get(name="Berlin")
            self.assertAlmostEqual(far.far.km, 878, delta=5)

        def test_b_what_migrations_made_is_there_alone(self):
            self.assertEqual([place.name for place in Place.objects.all()], ["Berlin"])
            Place.objects.all().delete()

        def test_c_again(self):
            place = Place.objects.get()
            self.assertEqual((place.point.x, place.point.y), (13.4, 52.5))

        def test_shapes(self):
            square = MultiPolygon(Polygon.from_bbox((0, 0, 10, 10)), srid=3857)
            raster = GDALRaster({"srid": 4326, "width": 2, "height": 2, "scale": (1, -1),
                                 "bands": [{"data": [1, 2, 3, 4]}]})
            made = Place.objects.create(name="all", point=PARIS, area=square, picture=raster,
                                        track=LineString((0, 0, 1), (1, 1, 2), srid=4326))
            made.refresh_from_db()
            found = Place.objects.annotate(size=Area("area")).get(pk=made.pk)
            self.assertAlmostEqual(found.size.sq_m, 100)
            self.assertEqual(made.track.coords[1], (1, 1, 2))
            self.assertEqual(made.picture.width, 2)

        def test_reference_systems(self):
            from django.contrib.gis.db.backends.postgis.models import PostGISSpatialRefSys

            self.assertEqual(PostGISSpatialRefSys.objects.get(srid=4326).auth_name, "EPSG")

        def test_data(self):
            made = self.data.create_batch("shop.Place", 3, point=PARIS, area=None, track=None, picture=None)
            self.assertEqual(Place.objects.filter(pk__in=[one.pk for one in made]).count(), 3)

        def test_version(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT PostGIS_Lib_Version()")
                self.assertTrue(cursor.fetchone()[0])


    class RolledBack(IntegrationMixin, TestCase):
        def test_a_row(self):
            Place.objects.create(name="Paris", point=PARIS)
            self.assertEqual(Place.objects.count(), 2)
"""


def write_places(project: Project) -> None:
    project.settings(SETTINGS)
    project.write("shop/models.py", MODELS)
    project.write("shop/migrations/0002_place.py", MIGRATION)
    write_tests(project, TESTS)
    project.env["ITKIT_SOURCE"] = "system"


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.parametrize("door", DOORS)
def test_places(door: str, isolation: str, project: Project) -> None:
    write_places(project)
    for _ in range(2):  # migrated, and from what the first has left
        result = enter(door, project, ITKIT_POSTGRES_ISOLATION=isolation)
        assert result.counts == {"passed": 8}, result.output
        assert "migrates anew" not in result.output


SHARED = """
    from django.contrib.gis.db.backends.postgis.models import PostGISSpatialRefSys
    from django.db import connection
    from itkit.test import IntegrationTestCase


    class Shared(IntegrationTestCase):
        def test_a_own_reference_system(self):
            PostGISSpatialRefSys.objects.create(
                srid=990001, auth_name="ME", auth_srid=1, srtext="x", proj4text="+proj=longlat"
            )

        def test_b_it_is_gone(self):
            self.assertFalse(PostGISSpatialRefSys.objects.filter(srid=990001).exists())

        def test_topology(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT topology.CreateTopology('city', 4326)")
"""


def test_what_a_schema_does_not_isolate_needs_a_database(project: Project) -> None:
    write_places(project)
    write_tests(project, SHARED)
    without = project.test("--integration", "-k", "test_a")
    assert "permission denied for table spatial_ref_sys" in without.output, without.output
    told = (
        "or writes to a table that an extension has made, such as spatial_ref_sys, sets ITKIT ="
        ' {"POSTGRES": {"ISOLATION": "database"}}'
    )
    assert told in without.output, without.output
    migration = project.path / "shop/migrations/0002_place.py"
    raster = 'CreateExtension("postgis_raster"),'
    both = f'{raster} CreateExtension("postgis_topology"),'
    migration.write_text(migration.read_text().replace(raster, both))
    told = project.test("--integration")
    assert "The extension 'postgis_topology' cannot be created where what it" in told.output
    assert "Traceback" not in told.output
    result = project.test("--integration", ITKIT_POSTGRES_ISOLATION="database")
    assert result.counts == {"passed": 3}, result.output
